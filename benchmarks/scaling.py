"""How the per-image stages grow: seconds an image and memory at 100, 1,000 and 10,000 images.

The stages are the real ones, what they work on is small: noise of 96 x 72 pixels (100 files, each
indexed many times), networks with random weights and few channels, 20 proposals an image. So the
figures show how cost grows, not what a photograph costs. Then what `dvc status` and a `dvc repro`
with nothing to do cost on a shelf of the largest number: three stores as the writer makes them, of
20 masks an image. DVC's cost grows with the number of files, which masks do not change.
Run as `python -m benchmarks.scaling`, or with other numbers of images behind it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
import yaml
from PIL import Image

from benchmarks.table import ROOT, Line, print_table
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.weights import write_weights
from pipeline.masks import from_counts
from pipeline.networks.mask_rcnn import Architecture, MaskRcnn, MaskRcnnDescription
from pipeline.networks.prm import Prm, PrmDescription
from pipeline.networks.sharpmask import Description, SharpMask

STAGES = ("peaks", "proposals", "sampler", "predictions", "refinement")
COUNTS = (100, 1_000, 10_000)
STORES = ("proposals", "predictions", "refinement")
HEIGHT, WIDTH, FILES = 72, 96, 100
BACKBONE = "tf_efficientnet_lite0"


class Cost(NamedTuple):
    """Of a stage's run: seconds, and MiB of all its processes at their most."""

    seconds: float
    mebibytes: float


def main() -> None:
    """Print the table."""
    counts = tuple(map(int, sys.argv[1:])) or COUNTS
    print_table(lines(counts))


def lines(counts: tuple[int, ...] = COUNTS) -> Iterator[Line]:
    """A line a stage and number of images, beside the smallest; then DVC on the largest shelf."""
    first: dict[str, Cost] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_project(folder, count)
            for stage in STAGES:
                cost = run_stage(folder, stage)
                smallest = first.setdefault(stage, cost)
                note = f"{cost.mebibytes:,.0f} MiB at most; {smallest.mebibytes:,.0f} at the fewest"
                each, before = 1000 * cost.seconds / count, 1000 * smallest.seconds / counts[0]
                job = f"{stage}, {count:,} small images, start included"
                yield Line(job, "ms an image", each, f"{counts[0]:,} images", before, note)
    yield from dvc_lines(max(counts))


def dvc_lines(count: int) -> Iterator[Line]:
    """Two lines: DVC asked about a shelf of so many images, where nothing has changed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, count)
        for stage in STORES:
            _write_store(folder / "data" / stage / "train", count)
        identity = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org")
        for command in (
            ("git", "init", "--quiet"),
            ("dvc", "init", "--quiet"),
            ("git", *identity, "commit", "--quiet", "--message", "start"),
            ("dvc", "commit", "--quiet", "--force", *STORES),
        ):
            _seconds(folder, *command)
        files = [file for stage in STORES for file in (folder / "data" / stage).rglob("*")]
        size = sum(file.stat().st_size for file in files if file.is_file()) / 2**30
        note = f"{len(STORES)} stages, {sum(map(Path.is_file, files))} files, {size:.1f} GiB"
        for what, command in {
            "dvc status": ("dvc", "status", *STORES),
            "dvc repro, nothing to do": ("dvc", "repro", "--single-item", *STORES),
        }.items():
            taken = min(_seconds(folder, *command) for _ in range(3))
            job = f"{what}, stores of {count:,} images"
            yield Line(job, "s", taken, "", nan, note)


def _write_store(place: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    score = np.linspace(1, 0, 20, dtype=np.float32)
    with ProposalWriter(place, "random", "none", {}) as store:
        for number in range(count):
            codes = rng.integers(0, 255, (len(score), 200), np.uint8)
            masks = from_counts(list(codes), HEIGHT, WIDTH)
            store.add(f"{number:06d}", HEIGHT, WIDTH, Proposals(masks, score))


def write_project(folder: Path, images: int) -> None:
    """Write a project in which the per-image stages can run: nine in ten images are of train."""
    for part in ("pipeline", "stages"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(_parameters(), sort_keys=False))
    classes = tuple(_parameters()["dataset"]["classes"])
    photographs = _photographs(folder / "photographs", images, classes)
    train = images * 9 // 10
    for name, of_split in (("train", photographs[:train]), ("val", photographs[train:])):
        split = Split(root="photographs", classes=classes, photographs=tuple(of_split))
        split.write(folder / "data" / "dataset" / f"{name}.json")
    _write_networks(folder / "data", classes)


def run_stage(folder: Path, stage: str, **environment: str) -> Cost:
    """Run a stage's script."""
    settings = {**os.environ, "WISE_DEVICE": "cpu", "PYTHONPATH": "", **environment}
    command = [sys.executable, "-m", f"stages.{stage}"]
    start, most = time.perf_counter(), 0.0
    process = psutil.Popen(
        command, cwd=folder, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while process.poll() is None:
        most = max(most, _mebibytes(process))
        time.sleep(0.2)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{stage} failed: {process.stderr.read().decode()}")
    return Cost(seconds, most)


def _mebibytes(process: psutil.Process) -> float:
    """Proportional set size of a process and those it started: shared memory counts once."""
    size = 0
    try:
        for one in (process, *process.children(recursive=True)):
            size += one.memory_full_info().pss
    except psutil.Error:  # one ended while it was asked
        pass
    return size / 2**20


def _parameters() -> dict[str, Any]:
    parameters: dict[str, Any] = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())
    parameters["proposals"]["count"] = 20
    parameters["proposals"]["sharpmask"] |= {"smallest_scale": -0.5, "largest_scale": 0.0}
    parameters["sampler"]["visits"] = 2
    parameters["predictions"] |= {"score_threshold": 0.0, "detections": 10}
    return parameters


def _photographs(folder: Path, count: int, classes: tuple[str, ...]) -> list[Photograph]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(min(count, FILES)):
        noise = Image.fromarray(rng.integers(0, 255, (9, 12, 3), np.uint8))
        noise.resize((WIDTH, HEIGHT)).save(folder / f"{number}.jpg")
    return [
        Photograph(
            id=f"{number:06d}",
            file=f"{number % FILES}.jpg",
            height=HEIGHT,
            width=WIDTH,
            sha256="",
            tags=(classes[number % len(classes)],),
        )
        for number in range(count)
    ]


def _write_networks(shelf: Path, classes: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    prm = PrmDescription(backbone=BACKBONE, classes=classes, side=64, upsample=8)
    write_weights(shelf / "prm" / "weights.safetensors", Prm(prm, "none"), prm)
    sharpmask = Description(
        backbone=BACKBONE,
        features=8,
        code=16,
        score=8,
        lateral=4,
        refinement=8,
        trained_on="nothing",
    )
    network = SharpMask(sharpmask, "none")
    write_weights(shelf / "sharpmask" / "weights.safetensors", network, sharpmask)
    architecture = Architecture(
        backbone=BACKBONE,
        min_side=64,
        max_side=96,
        anchor=8.0,
        channels=8,
        mask_layers=1,
        box_features=16,
        proposals=20,
        rois=8,
    )
    mask_rcnn = MaskRcnnDescription(classes=classes, architecture=architecture)
    detector = MaskRcnn(mask_rcnn, "none")
    write_weights(shelf / "mask_rcnn" / "weights.safetensors", detector, mask_rcnn)


def _seconds(folder: Path, *command: str) -> float:
    """Seconds of a command, with the programs of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    if b"Running stage" in done.stdout:
        raise SystemExit(f"{' '.join(command)} ran a stage, which there was no need to")
    return seconds


if __name__ == "__main__":
    main()
