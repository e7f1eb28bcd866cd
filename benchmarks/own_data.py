"""Own photographs, as a new user has them: `python -m benchmarks.own_data VOC FOLDER`.

Makes a project in FOLDER by `wise new` with photographs of a year of Pascal VOC and their tags
alone, runs it, and judges it on photographs that it has not seen. Prints the time of each stage
beside the estimate of `wise check`, and the quality of peaks, pseudo masks and detections.

Finished stages are not repeated, and then take no time: remove FOLDER to measure it again.

Examples
--------
python -m benchmarks.own_data real-data/VOCdevkit/VOC2012 own
python -m benchmarks.own_data real-data/VOCdevkit/VOC2012 cats --classes cat --until sampler
"""

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.box import Detected, as_instances
from benchmarks.table import machine
from pipeline.artifacts.split import Split
from pipeline.artifacts.truth import Truth
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.common.progress import duration
from pipeline.dataset import voc
from pipeline.dataset.listing import Listed, Listing, index
from pipeline.delivery.new_photographs import PhotographPredictor
from pipeline.evaluation.protocols import EvaluationParameters, Method, pairs_of
from pipeline.evaluation.stage_quality import peak_quality
from pipeline.evaluation.summary import evaluate, mean_names
from pipeline.evaluation.tables import ABOUT_INTERVALS, table, value_cell
from pipeline.execution.photographs import map_photographs
from stages.common.parameters import read_parameters
from stages.common.shelf import Shelf
from wise.detector import choose
from wise.new import new

CLASSES = ("cat", "cow", "dog", "horse", "sheep")
SHOWN = 50  # photographs of the list `judged` that the project evaluates: for its report


def main(arguments: Sequence[str]) -> None:
    """Make the project, run it, and print tables."""
    given = _parser().parse_args(arguments)
    root, project = given.voc.resolve(), given.folder.resolve() / "project"
    classes = tuple(sorted(given.classes))
    if not project.exists():
        tags = write_tags(root, given.folder.resolve(), classes, given)
        new(project, root / "JPEGImages", tags)
    print(f"{machine()}; {given.photographs} photographs of {', '.join(classes)}\n", flush=True)
    runtime.keep_freed_memory()
    with contextlib.chdir(project):
        print_times(estimated_seconds(), timed_run(given.until))
        print_peaks(root, given.train)
        if given.until is None:
            print_detections(root, given.judged, classes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_data")
    parser.add_argument("voc", type=Path, help="folder of a year")
    parser.add_argument("folder", type=Path, help="where the project is made")
    parser.add_argument("--classes", nargs="+", default=CLASSES, help="the tags that are used")
    parser.add_argument("--photographs", type=int, default=200, help="number of training images")
    parser.add_argument("--train", default="train_1464", help="the list that they are taken from")
    parser.add_argument("--judged", default="val_dev", help="the list that is judged on")
    parser.add_argument("--until", help="the last stage to run")
    return parser


def write_tags(
    root: Path, folder: Path, classes: tuple[str, ...], given: argparse.Namespace
) -> Path:
    """Write the tags of photographs that show one of the classes, spread over the lists."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tags.csv"
    counts = {("train", given.train): given.photographs, ("val", given.judged): SHOWN}
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "tags", "split"])
        for (split, name), count in counts.items():
            for image in _spread(_tagged(root, name, classes), count):
                rows.writerow([Path(image.file).name, ";".join(sorted(image.tags)), split])
    return path


def _tagged(root: Path, name: str, classes: tuple[str, ...]) -> list[Listed]:
    return [image for image in voc.read_list(root, name, classes, "main") if image.tags]


def _spread(images: Sequence[Listed], count: int) -> list[Listed]:
    """Take at most `count` images, evenly spread."""
    count = min(count, len(images))
    return [images[number * len(images) // count] for number in range(count)]


def estimated_seconds() -> dict[str, float]:
    """Return what `wise check` estimates for each stage, and for their starts."""
    command = [sys.executable, "-m", "wise", "check", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    report = json.loads(done.stdout)
    if report["estimate"] is None:
        raise InputError("; ".join(problem["message"] for problem in report["problems"]))
    seconds: dict[str, float] = report["estimate"]["seconds"]
    return {**seconds, "starts": report["estimate"]["start_seconds"]}


def timed_run(until: str | None) -> dict[str, float]:
    """Run the project, up to a stage if one is named; return the wall time of each stage."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *([until] if until else [])],
        env={**os.environ, "PATH": programs, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds: dict[str, float] = {}
    stage, begun = "dvc", time.perf_counter()
    for line in run.stdout or ():
        print(f"  {line.rstrip()}", file=sys.stderr)
        if line.startswith("Running stage '"):
            now = time.perf_counter()
            seconds[stage], begun, stage = now - begun, now, line.split("'")[1]
    if run.wait():
        raise InputError("dvc repro failed; its messages are above")
    seconds[stage] = time.perf_counter() - begun
    return seconds


def print_times(estimated: dict[str, float], measured: dict[str, float]) -> None:
    """Print the times side by side; those measured include the starts of the stages."""
    columns = {"wise check": estimated, "run": measured}
    stages = [*measured, *(stage for stage in estimated if stage not in measured)]
    rows = [
        {"stage": stage}
        | {what: duration(of[stage]) if stage in of else "" for what, of in columns.items()}
        for stage in stages
    ]
    total = {what: duration(sum(of.values())) for what, of in columns.items()}
    print(table([*rows, {"stage": "total"} | total]), flush=True)


def print_peaks(root: Path, name: str) -> None:
    """Print how many peaks and pseudo masks are right, on training images with true masks."""
    shelf = Shelf()
    truth = truth_of(root, name, shelf.splits["train"].open())
    proposals = shelf.proposals["train"].open()
    quality = peak_quality(truth, shelf.peaks.open(), proposals, shelf.draws.open())
    print(table([{column: quality[column] for column in quality if column != "per_class"}]))


def truth_of(root: Path, name: str, split: Split) -> Truth:
    """Read the true masks of photographs of a list, whose ids are those of the tags: file names."""
    by_stem = [p.model_copy(update={"id": Path(p.file).stem}) for p in split.photographs]
    truth = voc.read_truth(root, name, split.model_copy(update={"photographs": tuple(by_stem)}))
    named = [i.model_copy(update={"id": f"{i.id}.jpg"}) for i in truth.images]
    return truth.model_copy(update={"images": tuple(named)})


def print_detections(root: Path, name: str, classes: tuple[str, ...]) -> None:
    """Print mAP of the detector on all photographs of a list, with 95 % bootstrap intervals."""
    listing = Listing(root, tuple(voc.read_list(root, name, classes, "main")))
    with TemporaryDirectory() as folder:
        split = index(listing, classes, name, Path(folder, "indexed"))
    predictor = PhotographPredictor(choose(str(Path.cwd()), 0.0).detector)
    results = map_photographs(predictor, split.path, split.photographs, name, on_device=True)
    found = Detected(classes, {photograph.id: as_instances(of) for photograph, of in results})
    parameters = read_parameters(EvaluationParameters, "evaluation")
    truth = voc.read_truth(root, name, split)
    metrics, _ = evaluate(pairs_of(Method(truth, found), parameters), parameters)
    rows = [
        {"protocol": protocol} | {mean: value_cell(of, mean) for mean in mean_names(parameters)}
        for protocol, of in metrics.items()
    ]
    print(table(rows, ABOUT_INTERVALS))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
