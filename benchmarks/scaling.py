"""Scaling of the per-image stages: time and memory with 100, 1,000 and 10,000 images.

Each line compares a stage with a run on a tenth of the images, in milliseconds per image including
the start. The stages are the real ones, on the project of `tests.support.tiny`: they show how
the cost grows, not the cost of a photograph. Then `dvc status` and a `dvc repro` with nothing to do
are timed with 10,000 photographs and compared with a target. There, each per-image stage has a
proposal store with 20 masks per image, and each other stage has a file: DVC's cost depends on the
number of files, not on their content.

`python -m benchmarks.scaling COUNT` prints the time and the memory of each stage with COUNT images,
and those of an epoch of two trainings.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import yaml

from benchmarks.table import Line
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.common.masks import from_counts
from tests.support.tiny import ARCHITECTURE, HEIGHT, STAGES, WIDTH, use_grouping, write_project

COUNTS = (100, 1_000, 10_000)
BACKBONE = "test_resnet"  # the least that timm has: it is made to test timm with
TRAININGS = ("prm", "mask_rcnn")
SHELF = 10_000
WITHIN = ("scenes/source", "dataset/truth/train.json")  # read within what a stage leaves
AIMS = {("dvc", "status"): 3.0, ("dvc", "repro"): 5.0}  # seconds


class Cost(NamedTuple):
    """The cost of a stage: seconds, and peak memory of all its processes in MiB."""

    seconds: float
    mebibytes: float


def lines() -> Iterator[Line]:
    """Yield the lines of the stages and of DVC."""
    yield from stage_lines(COUNTS)
    yield from dvc_lines(SHELF)


def stage_lines(counts: tuple[int, ...]) -> Iterator[Line]:
    """Yield a line per stage and number of images, compared with the previous number."""
    fewer = costs(counts[0])
    for before, count in pairwise(counts):
        more = costs(count)
        for job, cost in more.items():
            yield Line(
                f"{job}, {count:,} small images, start included",
                "ms per image",
                1000 * cost.seconds / count,
                f"{before:,} images",
                1000 * fewer[job].seconds / before,
                f"{cost.mebibytes:,.0f} MiB at most, {fewer[job].mebibytes:,.0f} with fewer",
            )
        fewer = more


def costs(images: int) -> dict[str, Cost]:
    """Measure each per-image stage for a number of images; proposals by both methods."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, images, BACKBONE)
        found = {stage: run_stage(folder, stage) for stage in STAGES}
        use_grouping(folder)
        found["proposals by grouping"] = run_stage(folder, "proposals")
        return found


def costs_with_trainings(images: int) -> Iterator[tuple[str, Cost]]:
    """Measure each per-image stage for a number of images, and an epoch of each training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, images, BACKBONE)
        use_small_networks(folder)
        for stage in (*STAGES, *TRAININGS):
            yield stage, run_stage(folder, stage)


def use_small_networks(folder: Path) -> None:
    """Set the trainings to one epoch of networks of the smallest width."""
    file = folder / "params.yaml"
    parameters = yaml.safe_load(file.read_text())
    parameters["prm"] |= {"backbone": BACKBONE, "weights": "none", "image_size": 96}
    parameters["mask_rcnn"]["architecture"] = ARCHITECTURE.model_dump() | {"backbone": BACKBONE}
    parameters["mask_rcnn"]["weights"] = "none"
    for stage in TRAININGS:
        parameters[stage]["schedule"]["epochs"] = 1
    file.write_text(yaml.safe_dump(parameters, sort_keys=False))


def run_stage(folder: Path, stage: str) -> Cost:
    """Run a stage's script."""
    settings = {**os.environ, "WISE_DEVICE": "cpu", "PYTHONPATH": ""}
    command = [sys.executable, "-m", f"stages.{stage}"]
    start, most = time.perf_counter(), 0.0
    process = psutil.Popen(
        command, cwd=folder, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while process.poll() is None:
        most = max(most, _mebibytes(process))
        time.sleep(0.5)  # measuring takes time of the cores that the stage runs on
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{stage} failed: {process.stderr.read().decode()}")
    return Cost(seconds, most)


def _mebibytes(process: psutil.Process) -> float:
    """Sum the proportional set sizes of a process and its children: shared memory counts once."""
    size = 0
    try:
        for one in (process, *process.children(recursive=True)):
            size += one.memory_full_info().pss
    except psutil.Error:  # a process ended meanwhile
        pass
    return size / 2**20


def dvc_lines(images: int) -> Iterator[Line]:
    """Yield the lines of DVC without changes: the best of three runs each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shelf(folder, images)
        identity = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org")
        for command in (
            ("git", "init", "--quiet"),
            ("dvc", "init", "--quiet"),
            ("git", *identity, "commit", "--quiet", "--message", "start"),
            ("dvc", "commit", "--quiet", "--force"),
        ):
            _seconds(folder, *command)
        files = [path for path in (folder / "data").rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 2**30
        note = f"{len(files):,} files on the shelf, {size:.1f} GiB"
        for command, aim in AIMS.items():
            taken = min(_seconds(folder, *command) for _ in range(3))
            job = f"{' '.join(command)}, nothing to do, {images:,} photographs"
            yield Line(job, "s", taken, "the target", aim, note)


def write_shelf(folder: Path, images: int) -> None:
    """Write a project, its photographs' folder a dependency, and all that its stages leave."""
    write_project(folder, images)
    photographs = folder / "photographs"
    for number in range(images):
        (photographs / f"{number:06d}.jpg").write_bytes(b"%d" % number)
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    parameters["dataset"]["path"] = photographs.name
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    store = folder / "store"
    _write_store(store, images)
    for stage, entry in yaml.safe_load((folder / "dvc.yaml").read_text())["stages"].items():
        for out in (*entry["outs"], *entry.get("metrics", [])):
            path = folder / (out if isinstance(out, str) else next(iter(out)))
            if stage in STAGES:
                shutil.copytree(store, path / "train")
            else:
                _touch(path if path.suffix else path / "file")
    for path in WITHIN:
        _touch(folder / "data" / path)


def _touch(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def _write_store(place: Path, images: int) -> None:
    rng = np.random.default_rng(0)
    score = np.linspace(1, 0, 20, dtype=np.float32)
    with ProposalWriter(place, "random", "none", {}) as store:
        for number in range(images):
            codes = rng.integers(0, 255, (len(score), 200), np.uint8)
            masks = from_counts(list(codes), HEIGHT, WIDTH)
            store.add(f"{number:06d}", HEIGHT, WIDTH, Proposals(masks, score))


def _seconds(folder: Path, *command: str) -> float:
    """Time a command in seconds, with the programs of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    if b"Running stage" in done.stdout:
        raise SystemExit(f"{' '.join(command)} ran a stage, though nothing had changed")
    return seconds


if __name__ == "__main__":
    print("| stage | s | MiB |\n|---|---:|---:|")
    for stage, cost in costs_with_trainings(int(sys.argv[1])):
        print(f"| {stage} | {cost.seconds:,.0f} | {cost.mebibytes:,.0f} |", flush=True)
