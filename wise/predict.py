"""`wise predict`: detects instances in new photographs, in the formats of other tools."""

import contextlib
import errno
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts.weights import read_description
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.common.images import read_image
from pipeline.common.progress import track
from pipeline.delivery import formats
from pipeline.delivery.formats import CocoFiles, Prediction
from pipeline.delivery.new_photographs import PhotographPredictor, photographs, unique_names
from pipeline.delivery.pre_annotations import PreAnnotationFiles
from pipeline.detectors.calibration import CalibrationParameters
from pipeline.detectors.mask_rcnn.network import MaskRcnnDescription
from pipeline.detectors.predictions import PredictionsParameters, Predictor
from pipeline.detectors.refinement import RefinementParameters
from pipeline.execution.pool import ordered_map
from pipeline.proposals.methods import proposer_of, supervision
from pipeline.proposals.parameters import ProposalsParameters
from stages.common.parameters import read_parameters
from stages.common.shelf import Shelf
from wise.project import root


class Format(StrEnum):
    """The output formats."""

    OVERLAY = "overlay"
    COCO = "coco"
    LABELS = "labels"
    YOLO = "yolo"
    PRE_ANNOTATIONS = "pre-annotations"


def predict(
    photos: Annotated[list[str], typer.Argument(help="Folders, files, or patterns like '*.jpg'.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
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
        Path | None, typer.Option(help="Weights of a detector; default: the project's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Detect instances in new photographs with the trained detector.

    Photographs that cannot be read are reported on stderr and skipped;
    the exit status is then 1.

    Example: wise predict holiday/ 'more/*.jpg' --out found --format yolo
    """
    paths = photographs(photos)
    wanted = list(dict.fromkeys(formats_ or [Format.OVERLAY, Format.COCO]))
    detector = weights or Shelf(root()).detector
    classes = read_description(detector, MaskRcnnDescription).classes
    predictor = make_predictor(detector, score, refine)
    with runtime.device_memory("predictions.max_detections"):
        instances, unreadable = write_all(predictor, paths, classes, wanted, out)
    read = len(paths) - len(unreadable)
    if as_json:
        counts = {"photographs": read, "instances": instances, "unreadable": unreadable}
        typer.echo(json.dumps({"out": str(out), **counts}))
    else:
        typer.echo(f"{out}: {instances} instances in {read} photographs")
    if unreadable:
        raise typer.Exit(1)


def make_predictor(detector: Path, score: float, refine: bool) -> PhotographPredictor:
    """Make a predictor with the parameters of params.yaml."""
    project, detector = root(), detector.resolve()
    with contextlib.chdir(project):
        shelf = Shelf(project)
        # The classifier does not know the classes of another detector.
        classifier = shelf.classifier if detector == shelf.detector.resolve() else None
        detections = read_parameters(PredictionsParameters, "predictions")
        predictor = Predictor(detector, detections, classifier)
        # Fitted to the scores of the project's detector.
        calibrated = read_parameters(CalibrationParameters, "calibration").enabled
        scores = shelf.calibrations["refinement" if refine else "predictions"]
        calibration = scores.open() if calibrated and classifier else None
        runtime.device()  # raises an error now rather than for each photograph
        if not refine:
            return PhotographPredictor(predictor, score, calibration)
        refinement = read_parameters(RefinementParameters, "refinement")
        parameters = read_parameters(ProposalsParameters, "proposals")
        if parameters.method == "sharpmask":
            weights = str(project / parameters.source)
            parameters = parameters.model_copy(update={"source": weights})
        supervision(parameters)  # so does this
        return PhotographPredictor(
            predictor, score, calibration, proposer_of(parameters), refinement
        )


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
    results = ordered_map(predictor, paths, min(runtime.workers(on_device=True), len(paths)))
    named = zip(paths, unique_names(paths), results, strict=True)
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
