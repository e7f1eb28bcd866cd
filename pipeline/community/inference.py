"""Detection with a trained network (Kim et al., WACV 2021, section 3.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.ragged import opened
from pipeline.artifacts.split import PhotographFile
from pipeline.backbones.resizing import fit_size, to_size
from pipeline.common import masks, runtime
from pipeline.common.images import read_image
from pipeline.common.parameters import Parameters
from pipeline.community.mask_generation import above
from pipeline.community.network import Community
from pipeline.community.regions import DIVISOR, boxes_of, scaled
from pipeline.community.regression import moved_boxes
from pipeline.community.segmentation import ensemble

_MIN_BOX_SIDE = 1.0


class CommunityPredictionsParameters(Parameters):
    """Settings of the stage `community_predictions`: which detections are kept."""

    min_sizes: tuple[PositiveInt, ...] = Field(
        min_length=1,
        description="shorter sides of a resized image, in pixels; results are averaged over them "
        "(480, 576, 688, 864, 1000)",
    )
    max_size: int = Field(
        ge=DIVISOR, description="maximum longer side of a resized image, in pixels (2000)"
    )
    max_regions: PositiveInt = Field(
        description="regions per image, the proposals of highest objectness; bounds memory"
    )
    nms_threshold: float = Field(
        ge=0, le=1, description="maximum IoU of the boxes of two detections of a class (0.3)"
    )
    min_score: float = Field(ge=0, lt=1, description="minimum score of a detection")
    max_detections: PositiveInt = Field(description="maximum number per image (COCO: 100)")


@dataclass(frozen=True)
class CommunityPredictor:
    """Detects the instances of photographs whose proposals are stored.

    Attributes
    ----------
    weights : file of the network.
    proposals : store of the photographs' proposals.
    """

    weights: Path
    proposals: Path
    parameters: CommunityPredictionsParameters

    def __call__(self, photograph: PhotographFile) -> Instances:
        """Detect the instances of one photograph, at its own size, by descending score."""
        proposals = opened(ProposalStore, self.proposals).proposals(photograph.id)
        image = read_image(photograph.path)
        return predict(_network(self.weights), image, boxes_of(proposals), self.parameters)


@lru_cache(maxsize=1)
def _network(weights: Path) -> Community:
    return runtime.channels_last(Community.load(weights), runtime.device())


@torch.inference_mode()
def predict(
    network: Community,
    image: NDArray[np.uint8],
    boxes: Tensor,
    parameters: CommunityPredictionsParameters,
) -> Instances:
    """Detect the instances of a photograph among its regions. Empty masks are dropped.

    Parameters
    ----------
    image : uint8 (h, w, 3).
    boxes : of the regions, best first, float32 (r, 4), x1 y1 x2 y2 in pixels; the first
        `max_regions` are used.

    Returns
    -------
    Instances at the size of the photograph, by descending score.
    """
    if len(boxes) == 0:
        return Instances.none()
    boxes = boxes[: parameters.max_regions]
    device, size = next(network.parameters()).device, (image.shape[0], image.shape[1])
    with runtime.autocast(device):
        views = [_view(network, image, side, parameters.max_size) for side in parameters.min_sizes]
        boxes, label, score = _detections(network, views, boxes.to(device), size, parameters)
        shapes = _masks(network, views, boxes, label, size)
    kept = shapes.any(2).any(1)
    return Instances(
        masks.encode(shapes[kept].cpu().numpy()),
        (label[kept] - 1).cpu().numpy().astype(np.int16),
        score[kept].cpu().numpy(),
    )


class _View(NamedTuple):
    """The feature maps of an image at one size (height, width)."""

    levels: list[Tensor]
    size: tuple[int, int]


def _view(network: Community, image: NDArray[np.uint8], min_size: int, max_size: int) -> _View:
    size = fit_size(image.shape[0], image.shape[1], min_size, max_size, DIVISOR)
    resized = to_size(image, size)[None]
    device = next(network.parameters()).device
    return _View(network.backbone(runtime.channels_last(resized, device) / 255), size)


def _detections(
    network: Community,
    views: Sequence[_View],
    boxes: Tensor,
    size: tuple[int, int],
    parameters: CommunityPredictionsParameters,
) -> tuple[Tensor, Tensor, Tensor]:
    """Detect objects: boxes (n, 4), labels int64 (n,) from 1, and scores (n,), best first."""
    found = [network.detect(view.levels, scaled(boxes, size, view.size)) for view in views]
    scores = torch.stack([regions.scores().float() for regions in found]).mean(0)
    offsets = torch.stack([regions.offsets.float() for regions in found]).mean(0)
    moved = clip_boxes_to_image(moved_boxes(boxes, offsets), size)
    score, label = scores[:, 1:].max(1)
    kept = remove_small_boxes(moved, _MIN_BOX_SIDE)
    kept = kept[score[kept] >= parameters.min_score]
    of_nms = batched_nms(moved[kept], score[kept], label[kept], parameters.nms_threshold)
    kept = kept[of_nms[: parameters.max_detections]]
    return moved[kept], label[kept] + 1, score[kept]


def _masks(
    network: Community,
    views: Sequence[_View],
    boxes: Tensor,
    label: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """Compute the masks of detections at the size of the image, bool (n, h, w) (Eq. 10)."""
    architecture = network.description.architecture
    cells = (architecture.cells, architecture.cells)
    if architecture.mask_generation:
        of_views = [_cells(network, view, scaled(boxes, size, view.size), label) for view in views]
        in_boxes = torch.stack(of_views).mean(0)
    else:
        in_boxes = boxes.new_ones(len(boxes), *cells)
    # Boxes on the CPU: a mask is pasted at integer coordinates, and to read them from a GPU is to
    # wait.
    pasted = paste_masks_in_image(in_boxes[:, None], boxes.cpu(), size)[:, 0]
    return above(pasted, architecture.mask_threshold)


def _cells(network: Community, view: _View, boxes: Tensor, label: Tensor) -> Tensor:
    """Compute the activation map, averaged with the segmentation if any: float (n, T, T)."""
    features = network.detect(view.levels, boxes).features
    maps = network.activation_maps(view.levels, boxes, features)
    generated = network.maps_of_labels([level.float() for level in maps], label)
    if not network.description.architecture.segmentation:
        return generated
    logits = network.segment(view.levels, boxes, features).float()
    segmented = logits.softmax(1)[torch.arange(len(label), device=label.device), label]
    return ensemble(generated, segmented)
