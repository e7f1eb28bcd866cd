"""`wise predict`: detects instances in new photographs, in the formats of other tools."""

import errno
import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts.instances import Instances
from pipeline.common import runtime
from pipeline.common.errors import InputError, one_line
from pipeline.common.images import read_image
from pipeline.common.progress import track
from pipeline.delivery import formats
from pipeline.delivery.formats import CocoFiles, Prediction
from pipeline.delivery.new_photographs import PhotographPredictor, photographs, unique_names
from pipeline.delivery.pre_annotations import PreAnnotationFiles
from pipeline.execution.pool import ordered_map
from pipeline.proposals.methods import proposer_of, supervision
from wise.detector import Choice, choose

# Of fewer photographs, worker processes take longer to start than they save.
MANY = 50


class Format(StrEnum):
    """The output formats."""

    OVERLAY = "overlay"
    COCO = "coco"
    LABELS = "labels"
    YOLO = "yolo"
    PRE_ANNOTATIONS = "pre-annotations"


def predict(
    photos: Annotated[list[str], typer.Argument(help="Folders, files, or patterns like '*.jpg'.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    formats_: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="overlay: pictures. coco: annotations.json and results.json. labels: PNG label "
            "maps of classes and instances. yolo: segmentation text. pre-annotations: polygons to "
            "correct in CVAT, Label Studio or FiftyOne. Repeat for several formats.",
        ),
    ] = None,
    score: Annotated[
        float, typer.Option(min=0, max=0.999, help="Minimum score of an instance.")
    ] = 0.5,
    refine: Annotated[
        bool, typer.Option(help="Replace masks by the proposals of highest IoU.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE|FOLDER",
            help="A detector that comes with wise, a file, or the folder of a project. Default: "
            "the project's, if it was trained on photographs, or the one of the most classes.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Detect instances in new photographs with a trained detector.

    Photographs that cannot be read are reported on stderr and skipped;
    the exit status is then 1.

    Example: wise predict holiday/ 'more/*.jpg' --out found --format yolo
    """
    paths = photographs(photos)
    wanted = list(dict.fromkeys(formats_ or [Format.OVERLAY, Format.COCO]))
    choice = choose(weights, score, refine)
    detector = choice.detector
    about = f"{', '.join(detector.classes)}; trained on {detector.trained_on}"
    typer.echo(one_line(f"detector {detector.name}: {about}"), err=True)
    predictor = make_predictor(choice, refine)
    with runtime.device_memory("predictions.max_detections"):
        instances, unreadable = write_all(predictor, paths, detector.classes, wanted, out)
    read = len(paths) - len(unreadable)
    if as_json:
        counts = {"photographs": read, "instances": instances, "unreadable": unreadable}
        typer.echo(json.dumps({"out": str(out), "detector": detector.name, **counts}))
    else:
        typer.echo(one_line(f"{out}: {instances} instances in {read} photographs"))
    if unreadable:
        raise typer.Exit(1)


def make_predictor(choice: Choice, refine: bool) -> PhotographPredictor:
    """Make a predictor; what cannot be used is an error now, not for each photograph."""
    runtime.device()
    if not refine:
        return PhotographPredictor(choice.detector)
    supervision(choice.proposals)
    return PhotographPredictor(choice.detector, proposer_of(choice.proposals), choice.refinement)


def write_all(
    predictor: PhotographPredictor,
    paths: Sequence[Path],
    classes: Sequence[str],
    wanted: Sequence[Format],
    out: Path,
) -> tuple[int, list[str]]:
    """Write the instances of each photograph.

    A photograph that cannot be read, or whose name is too long for its results, is reported and
    skipped. Whatever ends the command, what was finished is also in the files of all photographs.

    Returns
    -------
    The number of instances, and the photographs that were skipped.
    """
    out.mkdir(parents=True, exist_ok=True)
    collected: list[CocoFiles | PreAnnotationFiles] = []
    if Format.COCO in wanted:
        collected.append(CocoFiles(classes))
    if Format.PRE_ANNOTATIONS in wanted:
        collected.append(PreAnnotationFiles(classes, paths))
    unreadable: list[str] = []
    instances = 0
    named = zip(paths, unique_names(paths), _computed(predictor, paths), strict=True)
    try:
        for path, name, found in track(named, len(paths), "predict"):
            try:
                if isinstance(found, InputError):
                    raise found
                prediction = Prediction(path, name, read_image(path), found)
                _write(prediction, classes, wanted, out)
            except InputError as error:
                typer.echo(f"wise: {error}", err=True)
                unreadable.append(str(path))
                continue
            instances += len(found.masks)
            for collector in collected:
                collector.add(prediction)
    finally:
        formats.write_class_names(classes, wanted, out)
        for collector in collected:
            collector.write(out)
    return instances, unreadable


def _computed(
    predictor: PhotographPredictor, paths: Sequence[Path]
) -> Iterator[Instances | InputError]:
    """Compute the instances of each photograph, of many in worker processes."""
    workers = runtime.workers(on_device=True)
    if workers > 1 and len(paths) >= MANY:
        return ordered_map(predictor, paths, workers)
    runtime.start_worker()  # the same results as there
    return map(predictor, paths)


def _write(
    prediction: Prediction, classes: Sequence[str], wanted: Sequence[Format], out: Path
) -> None:
    """Write the results of one photograph, or raise InputError if its name is too long."""
    try:
        for kind in wanted:
            if kind in formats.WRITERS:
                formats.WRITERS[kind](prediction, classes, out)
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EILSEQ):
            raise
        raise InputError(f"{prediction.file}: no results written: {error.strerror}") from None
