"""Export of the trained detector as ONNX, for images of any size, and as a torch.export program."""

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import nms

from pipeline.common import files
from pipeline.detectors.mask_rcnn.network import DIVISOR, PADDING, Architecture, MaskRcnn

OPSET = 17
OUTPUTS = ("boxes", "labels", "scores", "masks")
_DROPPED = -1.0


class Detector(nn.Module):
    """The detector for one image, float32 (3, h, w) in 0..1, already resized for the detector.

    It pads the image itself. It returns `boxes`, float32 (n, 4), x1 y1 x2 y2 in pixels; `labels`,
    int64 (n,), from 1; `scores`, float32 (n,), descending; `masks`, float32 (n, s, s),
    probabilities over the box; s is the architecture's `mask_size`.
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


class FixedDetector(nn.Module):
    """The same detector with static shapes, as torch.export needs them.

    torchvision drops boxes at several steps. Here they are kept until the end, with the score
    `_DROPPED`. The RoI pools receive no image sizes, as their scales are set.
    """

    def __init__(self, network: MaskRcnn) -> None:
        super().__init__()
        self.network: Any = network  # torchvision's modules have no types

    def forward(self, canvas: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect the objects of an image.

        Parameters
        ----------
        canvas : float32 (3, side, side) in 0..1, see `canvas_side`; the image is in its upper
            left corner, the rest is `PADDING / 255`.
        size : int64 (2,), height and width of the image in pixels.

        Returns
        -------
        As `Detector`.
        """
        features = self.network.features(canvas[None])
        edge = size.flip(0).repeat(2)
        regions, kept = self._regions(features, canvas[None], edge)
        boxes, labels, scores = self._boxes(features, regions, kept, edge)
        heads = self.network.heads
        pooled = heads.mask_roi_pool(features, [boxes], [])
        masks = heads.mask_predictor(heads.mask_head(pooled))
        masks = masks[torch.arange(len(labels)), labels].sigmoid()
        found = (scores > _DROPPED).nonzero()[:, 0]
        return boxes[found], labels[found], scores[found], masks[found]

    def _regions(
        self, features: dict[str, Tensor], images: Tensor, edge: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the regions (r, 4) for the heads, and bool (r,), whether each is valid."""
        rpn = self.network.rpn
        levels = list(features.values())
        objectness, deltas = rpn.head(levels)
        anchors = rpn.anchor_generator(ImageList(images, [images.shape[-2:]]), levels)
        counts = [of_level[0].numel() for of_level in objectness]
        scores, deltas = concat_box_prediction_layers(objectness, deltas)
        (best,) = rpn._get_top_n_idx(scores.T, counts)
        level = torch.cat([torch.full((n,), i) for i, n in enumerate(counts)])[best]
        boxes = rpn.box_coder.decode(deltas, anchors)[best, 0].clamp(min=0).minimum(edge)
        scores = _filtered(boxes, scores[best, 0].sigmoid(), level, rpn.min_size, rpn.nms_thresh)
        top = scores.topk(min(rpn.post_nms_top_n(), len(scores)))
        return boxes[top.indices], top.values > _DROPPED

    def _boxes(
        self, features: dict[str, Tensor], regions: Tensor, kept: Tensor, edge: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best boxes of all classes, their labels and their scores."""
        heads = self.network.heads
        pooled = heads.box_roi_pool(features, [regions], [])
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        boxes = heads.box_coder.decode(deltas, [regions]).clamp(min=0).minimum(edge)
        scores = logits.softmax(1)
        labels = torch.arange(scores.shape[1]).expand_as(scores)[:, 1:].reshape(-1)
        boxes, scores = boxes[:, 1:].reshape(-1, 4), scores[:, 1:]
        counted = kept[:, None] & (scores > heads.score_thresh)
        scores = torch.where(counted, scores, _DROPPED).reshape(-1)
        scores = _filtered(boxes, scores, labels, 1e-2, heads.nms_thresh)
        top = scores.topk(min(heads.detections_per_img, len(scores)))
        return boxes[top.indices], labels[top.indices], top.values


def _filtered(
    boxes: Tensor, scores: Tensor, groups: Tensor, min_side: float, threshold: float
) -> Tensor:
    """Drop the scores of small boxes, and of those that non-maximum suppression per group drops."""
    large = ((boxes[:, 2:] - boxes[:, :2]) >= min_side).all(1)
    scores = torch.where(large, scores, _DROPPED)
    apart = boxes + (groups * (boxes.max() + 1))[:, None]
    kept = torch.zeros_like(large).index_fill(0, nms(apart, scores, threshold), True)
    return torch.where(kept, scores, _DROPPED)


def canvas_side(architecture: Architecture) -> int:
    """Compute the side, in pixels, of the square that holds any resized image."""
    return math.ceil(architecture.max_size / DIVISOR) * DIVISOR


def write_onnx(network: MaskRcnn, path: Path) -> None:
    """Write a detector in evaluation mode as ONNX (opset 17), with dynamic height and width.

    It uses torch's tracing exporter, which torchvision's detection code supports. The exporter
    based on `torch.export` fails at data-dependent shapes.
    """
    side = network.description.architecture.min_size
    sample = torch.rand(3, side, side + DIVISOR // 2)
    content = io.BytesIO()
    with _without_warnings():
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


def write_program(network: MaskRcnn, path: Path) -> None:
    """Write a detector in evaluation mode as a torch.export program, for a CPU.

    Its inputs and outputs are those of `FixedDetector`. With dynamic sides the export did not
    finish within ten minutes.
    """
    side = canvas_side(network.description.architecture)
    sample = torch.rand(3, side, side), torch.tensor([side, side])
    with _without_warnings():
        program = torch.export.export(FixedDetector(network).eval(), sample, strict=False)
    content = io.BytesIO()
    torch.export.save(program, content)
    files.write_bytes(path, content.getvalue())


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence the exporters' warnings of possible differences; tests compare the outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
