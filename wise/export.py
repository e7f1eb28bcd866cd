"""`wise export`: the trained detector for other runtimes."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.export import write_onnx
from pipeline.networks.mask_rcnn import MaskRcnn
from wise.project import root


def export(
    out: Annotated[Path, typer.Option(help="The file to write, .onnx.")],
    weights: Annotated[
        Path | None, typer.Option(help="A detector; else data/mask_rcnn/weights.safetensors.")
    ] = None,
    score: Annotated[
        float, typer.Option(min=0, max=0.999, help="Least confidence of an instance.")
    ] = 0.05,
    detections: Annotated[int, typer.Option(min=1, help="Most instances of an image.")] = 100,
) -> None:
    """Write the trained detector as ONNX, for images of any size at the detector's scale.

    Example: wise export --out detector.onnx
    """
    detector = weights or root() / "data" / "mask_rcnn" / "weights.safetensors"
    network = MaskRcnn.load(detector, score, detections)
    write_onnx(network, out)
    architecture = network.description.architecture
    typer.echo(
        f"{out}: {', '.join(network.description.classes)}; give it images whose short side is "
        f"{architecture.min_side} or whose long side is {architecture.max_side} pixels"
    )
