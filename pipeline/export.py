"""The trained detector for other runtimes: ONNX, with images of any size."""

import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.artifacts import files
from pipeline.networks.mask_rcnn import DIVISOR, PADDING, MaskRcnn

OPSET = 17
OUTPUTS = ("boxes", "labels", "scores", "masks")


class Detector(nn.Module):
    """The detector for one image, float32 (3, h, w) in 0..1, already of the detector's scale.

    It pads the image itself. What it gives: `boxes`, float32 (n, 4), x1 y1 x2 y2 in pixels;
    `labels`, int64 (n,), from 1; `scores`, float32 (n,), descending; `masks`, float32
    (n, 28, 28), probabilities over the box.
    """

    def __init__(self, network: MaskRcnn) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect the objects of an image."""
        height, width = image.shape[-2:]
        missing = (0, -width % DIVISOR, 0, -height % DIVISOR)
        padded = F.pad(image, missing, value=PADDING / 255)
        (found,) = self.network(padded[None], [(height, width)])
        return found["boxes"], found["labels"], found["scores"], found["masks"][:, 0]


def write_onnx(network: MaskRcnn, path: Path) -> None:
    """Write a detector in evaluation mode as ONNX (opset 17), height and width left open.

    By torch's tracing exporter, for which torchvision's detection code has its own branches;
    the one by `torch.export` stops at those parts' shapes, which depend on the data.
    """
    side = network.description.architecture.min_side
    sample = torch.rand(3, side, side + DIVISOR // 2)
    content = io.BytesIO()
    torch.onnx.export(
        Detector(network).eval(),
        (sample,),
        content,  # type: ignore[arg-type]
        dynamo=False,
        opset_version=OPSET,
        input_names=["image"],
        output_names=list(OUTPUTS),
        dynamic_axes={
            "image": {1: "height", 2: "width"},
            **{name: {0: "instances"} for name in OUTPUTS},
        },
    )
    files.write_bytes(path, content.getvalue())
