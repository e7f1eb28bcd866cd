"""`wise export`: the detector for other runtimes, the pseudo masks for other trainers."""

import json
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.common import files
from pipeline.common.errors import InputError
from pipeline.delivery.export import canvas_side, write_onnx, write_program
from pipeline.delivery.model_card import DetectorOrigin, model_card
from pipeline.delivery.training_sets import WRITERS, SampledMasks, write_pre_annotations
from pipeline.detectors.mask_rcnn.network import MaskRcnn
from pipeline.report.tables import read_metrics
from stages.common.shelf import Shelf
from stages.common.yaml_files import read_yaml
from wise import HELP
from wise.project import commit, others, output, read_split, root

export = typer.Typer(**HELP, no_args_is_help=True, add_completion=False)


class Layout(StrEnum):
    """The format of an exported dataset."""

    COCO = "coco"
    YOLO = "yolo"
    PRE_ANNOTATIONS = "pre-annotations"


@export.callback()
def about() -> None:
    """Export the detector or the pseudo masks.

    Example: wise export pseudo-masks --out pseudo
    """


@export.command()
def detector(
    out: Annotated[Path, typer.Option(help="The output folder.")],
    score: Annotated[
        float, typer.Option(min=0, max=0.999, help="Minimum score of an instance.")
    ] = 0.05,
    detections: Annotated[int, typer.Option(min=1, help="Maximum instances per image.")] = 100,
) -> None:
    """Write the trained detector, with its model card.

    The formats are: weights, ONNX for images of any size, and a torch.export program.

    Example: wise export detector --out detector
    """
    project = root()
    weights = Shelf(project).detector
    network = MaskRcnn.load(weights, score, detections)
    card = model_card(_origin(project, network.description.classes))
    write_onnx(network, out / "detector.onnx")
    write_program(network, out / "detector.pt2")
    shutil.copyfile(weights, out / weights.name)
    files.write_bytes(out / "MODEL_CARD.md", card.encode())
    architecture = network.description.architecture
    side = canvas_side(architecture)
    typer.echo(
        f"{out}: {weights.name}, detector.onnx, detector.pt2, MODEL_CARD.md; scale images to "
        f"a shorter side of {architecture.min_size} pixels, or a longer one of "
        f"{architecture.max_size} if that is less; pad them at the right and bottom to "
        f"{side} x {side} for detector.pt2"
    )


@export.command()
def pseudo_masks(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    layout: Annotated[
        Layout,
        typer.Option(
            "--format",
            help="coco: data/ and labels.json, for detectron2, mmdetection, torchvision, FiftyOne. "
            "yolo: images/, labels/ and data.yaml, for Ultralytics. "
            "pre-annotations: to correct them in CVAT, Label Studio or FiftyOne.",
        ),
    ] = Layout.COCO,
) -> None:
    """Write the pseudo masks of the training photographs for another trainer, or to correct them.

    Example: wise export pseudo-masks --out pseudo --format yolo
    """
    shelf, split = Shelf(root()), read_split("train")
    proposals = shelf.proposals["train"].open()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: not empty; files of an earlier export would be used for training")
    if layout is Layout.PRE_ANNOTATIONS:
        written = write_pre_annotations(split, shelf.draws.open(), proposals, out)
        typer.echo(
            f"{out}: {len(written)} pseudo masks on {len(split.photographs)} photographs; "
            f"polygons have a median IoU of {written.median_iou()} with the masks"
        )
        return
    masks = SampledMasks(shelf.pseudo_masks, split, proposals.attributes["supervision"])
    WRITERS[layout](masks, out)
    typer.echo(
        f"{out}: {len(masks)} pseudo masks on {len(masks.images)} photographs; "
        f"{masks.left_out} with tags but without a pseudo mask left out"
    )


def _origin(project: Path, classes: tuple[str, ...]) -> DetectorOrigin:
    """Collect what the model card says about the origin of the detector."""
    shelf = Shelf(project)
    return DetectorOrigin(
        classes=classes,
        images={name: len(read_split(name).photographs) for name in ("train", "val")},
        proposals=shelf.proposals["train"].open().attributes,
        others=others(project),
        parameters=read_yaml(project / "params.yaml"),
        metrics=read_metrics(shelf.metrics) if shelf.metrics.is_file() else None,
        commit=commit(project),
        state=_state(project),
    )


def _state(project: Path) -> str:
    """Say whether parameters, weights and metrics are up to date according to DVC."""
    status = output(project, sys.executable, "-m", "dvc", "status", "--json")
    if status is None:
        return "not known"
    changed = json.loads(status)
    if not changed:
        return "everything is up to date"
    return f"{', '.join(changed)} not up to date, so this card may describe another detector"
