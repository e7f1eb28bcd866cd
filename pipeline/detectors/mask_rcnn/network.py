"""Mask R-CNN with a feature pyramid network, built from torchvision's modules.

He et al., ICCV 2017; Lin et al., CVPR 2017 (feature pyramid); WISE, sections 3.2 and 4.2.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import initLevelMapper

from pipeline.artifacts.weights import load_network
from pipeline.backbones.backbone import Backbone
from pipeline.common.parameters import Parameters
from pipeline.detectors.mask_rcnn.ignoring import IgnoringHeads, IgnoringProposalNetwork

STRIDES = (4, 8, 16, 32)
# Image sides are padded to multiples of the coarsest stride of the backbone.
DIVISOR = STRIDES[-1]
MAX_SIZE = 8192
# The gray value that the normalization of most backbones maps to about 0.
PADDING = 127
_BOX_CELLS = 7


class Architecture(Parameters):
    """The detector's input size and widths. The paper's values are in parentheses.

    The cost besides the backbone grows with the square of `channels`, with `rpn_post_nms_top_n`
    and with `box_batch_size_per_image`.
    """

    renamed: ClassVar[Mapping[str, str]] = {
        "min_side": "min_size",
        "max_side": "max_size",
        "anchor": "anchor_size",
        "proposals": "rpn_post_nms_top_n",
        "rois": "box_batch_size_per_image",
    }

    backbone: str = Field(description="a timm model (resnet50)")
    finest_stride: Literal[4, 8, 16] = Field(
        description="stride of the finest level of the feature pyramid, in pixels (4); that of the "
        "coarsest is 64"
    )
    min_size: int = Field(
        ge=DIVISOR, le=MAX_SIZE, description="shorter side of a resized image, in pixels (800)"
    )
    max_size: int = Field(
        ge=DIVISOR,
        le=MAX_SIZE,
        description="maximum longer side of a resized image, in pixels (1333)",
    )
    anchor_size: PositiveFloat = Field(
        description="side of the anchors of the finest level, in pixels; that of each coarser "
        "level is twice as large (32)"
    )
    channels: PositiveInt = Field(
        description="channels of the feature pyramid and of the mask head (256)"
    )
    mask_layers: PositiveInt = Field(le=64, description="convolutions of the mask head (4)")
    mask_size: Literal[28, 56] = Field(
        description="rows and columns of a mask over its box (28); 56 gives large objects finer "
        "outlines, and the mask head takes four times as long"
    )
    box_features: PositiveInt = Field(description="width of the box head's two layers (1024)")
    rpn_post_nms_top_n: PositiveInt = Field(
        description="regions per image kept after the RPN's non-maximum suppression "
        "(2000 in training, 1000 in testing)"
    )
    box_batch_size_per_image: PositiveInt = Field(
        description="regions per image sampled to train the box head (512)"
    )

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the backbone's feature maps in use, in pixels, ascending."""
        return tuple(stride for stride in STRIDES if stride >= self.finest_stride)


class MaskRcnnDescription(BaseModel):
    """What is needed to rebuild a detector, besides its weights."""

    classes: tuple[str, ...] = Field(min_length=1)
    architecture: Architecture


class MaskRcnn(nn.Module):
    """The detector, for images that are already resized: see `fit_size`.

    A label is the index in `description.classes` plus 1: 0 is the background.

    Parameters
    ----------
    description : the classes and the architecture.
    weights : weights of the backbone, see `Backbone`. Its batch norm is frozen.
    min_score : detections with a score above it are kept.
    max_detections : maximum number of detections per image.
    max_background_iou : in training, see `ignoring`.
    """

    def __init__(
        self,
        description: MaskRcnnDescription,
        weights: str,
        min_score: float = 0.05,
        max_detections: int = 100,
        max_background_iou: float = 1.0,
    ) -> None:
        super().__init__()
        self.description = description
        architecture = description.architecture
        self.backbone = Backbone(architecture.backbone, weights, architecture.strides)
        self.backbone.freeze_batch_norm()
        self.pyramid = FeaturePyramidNetwork(
            self.backbone.channels, architecture.channels, extra_blocks=LastLevelMaxPool()
        )
        self.rpn = _region_proposal_network(architecture)
        self.heads = _heads(architecture, len(description.classes) + 1, min_score, max_detections)
        self.rpn.max_background_iou = self.heads.max_background_iou = max_background_iou
        self._anchors, self._rois = _seeded(self.rpn), _seeded(self.heads)

    @classmethod
    def load(cls, path: Path, min_score: float, max_detections: int) -> "MaskRcnn":
        """Load a trained detector from its weights file, or raise InputError."""
        build = partial(cls, weights="none", min_score=min_score, max_detections=max_detections)
        return load_network(path, MaskRcnnDescription, build).eval()

    def losses(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Mapping[str, Tensor]],
        seeds: Sequence[int],
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Compute the five terms of the loss, in training mode (He et al., section 3).

        Parameters
        ----------
        images : float (n, 3, h, w) in 0..1, padded; h and w are multiples of 32.
        sizes : height and width of each image without its padding.
        targets : the m objects of each image; m may be 0. `boxes`, float32 (m, 4), x1 y1 x2 y2 in
            pixels; `labels`, int64 (m,), from 1; `masks`, uint8 (m, h, w). If `max_background_iou`
            is below 1, also `alternatives`, float32 (k, 4), boxes of possible objects.
        seeds : for each image, the seed of the sampled regions.

        Returns
        -------
        For each term its mean over regions, and their number, which may be 0.
        """
        features = self.features(images)
        self._anchors.seeds = self._rois.seeds = seeds
        with _full_precision(images):
            padded = ImageList(images, list(sizes))
            regions, rpn_losses = self.rpn(padded, features, list(targets))
            _, box_losses = self.heads(features, regions, list(sizes), list(targets))
        mask_losses = {"loss_mask": box_losses.pop("loss_mask")}
        counted = (
            (rpn_losses, self._anchors.drawn),
            (box_losses, self._rois.drawn),
            (mask_losses, self._rois.drawn_positive),
        )
        return {name: (mean, count) for means, count in counted for name, mean in means.items()}

    def forward(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """Detect objects, in evaluation mode.

        Returns
        -------
        For each image, by descending score: `boxes`, float32 (m, 4), x1 y1 x2 y2 in pixels;
        `labels`, int64 (m,), from 1; `scores`, float32 (m,); `masks`, float32 (m, 1, s, s),
        probabilities over the box; s is `mask_size`.
        """
        features = self.features(images)
        with _full_precision(images):
            regions, _ = self.rpn(ImageList(images, list(sizes)), features)
            detections: list[dict[str, Tensor]]
            detections, _ = self.heads(features, regions, list(sizes))
        return detections

    def forward_mirrored(
        self, images: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Detect objects in images and their mirror images together, in evaluation mode.

        Not published. Regions are proposed in both. Class probabilities, box offsets and mask
        probabilities of each region are averaged over both.

        Parameters
        ----------
        images : float (2 n, 3, h, w) in 0..1, n images and then their mirror images, padded.
        sizes : height and width of each of the n images without its padding.

        Returns
        -------
        As `forward`.
        """
        features, of_both = self.features(images), [*sizes, *sizes]
        heads: Any = self.heads
        with _full_precision(images):
            seen, _ = self.rpn(ImageList(images, of_both), features)
            mirrored = _mirrored(seen[len(sizes) :], sizes)
            regions = [torch.cat(both) for both in zip(seen[: len(sizes)], mirrored, strict=True)]
            everywhere = [*regions, *_mirrored(regions, sizes)]
            pooled = heads.box_roi_pool(features, everywhere, of_both)
            logits, offsets = heads.box_predictor(heads.box_head(pooled))
            log_probabilities = logits.softmax(1).unflatten(0, (2, -1)).mean(0).log()
            offsets = offsets.unflatten(0, (2, -1)).unflatten(2, (-1, 4))
            offsets[1, :, :, 0] *= -1
            boxes, scores, labels = heads.postprocess_detections(
                log_probabilities, offsets.mean(0).flatten(1), regions, list(sizes)
            )
            pooled = heads.mask_roi_pool(features, [*boxes, *_mirrored(boxes, sizes)], of_both)
            mask_logits = heads.mask_predictor(heads.mask_head(pooled))
            masks = maskrcnn_inference(mask_logits, [*labels, *labels])
        turned = zip(masks[: len(sizes)], masks[len(sizes) :], strict=True)
        masks = [(one + other.flip(3)) / 2 for one, other in turned]
        return [
            dict(zip(("boxes", "labels", "scores", "masks"), of_image, strict=True))
            for of_image in zip(boxes, labels, scores, masks, strict=True)
        ]

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the feature pyramid of images (n, 3, h, w): float32 levels, the finest first."""
        maps = OrderedDict((str(level), map_) for level, map_ in enumerate(self.backbone(images)))
        return {name: level.float() for name, level in self.pyramid(maps).items()}


class SeededSampler(BalancedPositiveNegativeSampler):  # type: ignore[misc]
    """torchvision's sampler of training regions, with a seed per image.

    The sampled regions of an image depend neither on the rest of the batch nor on the process.
    After a call, `drawn` is the number of sampled regions and `drawn_positive` the number of those
    that match an object, both int64 scalars.
    """

    seeds: Sequence[int] = ()
    drawn: Tensor
    drawn_positive: Tensor

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Sample regions of each image: two lists of uint8 (regions,), 1 for a sampled region."""
        positive, negative = [], []
        for seed, of_image in zip(self.seeds, matched_idxs, strict=True):
            torch.manual_seed(seed)
            drawn = super().__call__([of_image])
            positive += drawn[0]
            negative += drawn[1]
        self.drawn_positive = torch.cat(positive).sum()
        self.drawn = self.drawn_positive + torch.cat(negative).sum()
        return positive, negative


def pad(
    images: Sequence[Tensor], others: Sequence[tuple[int, int]] = ()
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Pad images, uint8 (3, h_i, w_i), to one batch (n, 3, h, w); return it and their sizes.

    `others` are sizes (height, width) that would fit in, too.
    """
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    heights, widths = zip(*sizes, *others, strict=True)
    height, width = padded_size(max(heights), max(widths))
    padded = torch.full((len(images), 3, height, width), PADDING, dtype=torch.uint8)
    for place, image in zip(padded, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return padded, sizes


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Round a height and a width up to multiples of `DIVISOR`."""
    return math.ceil(height / DIVISOR) * DIVISOR, math.ceil(width / DIVISOR) * DIVISOR


def mirror(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Mirror boxes (n, 4), x1 y1 x2 y2, in an image of the given size (height, width)."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([size[1] - right, top, size[1] - left, bottom], 1)


def _mirrored(boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    return [mirror(of_image, size) for of_image, size in zip(boxes, sizes, strict=True)]


def _full_precision(images: Tensor) -> torch.autocast:
    """Disable autocast: near 800, bfloat16 coordinates are multiples of 4 pixels."""
    return torch.autocast(images.device.type, enabled=False)


def _region_proposal_network(architecture: Architecture) -> IgnoringProposalNetwork:
    # One level more than the backbone's maps: the feature pyramid adds a coarser one.
    levels = range(len(architecture.strides) + 1)
    sides = [(architecture.anchor_size * 2**level,) for level in levels]
    anchors = AnchorGenerator(tuple(sides), ((0.5, 1.0, 2.0),) * len(sides))
    head = RPNHead(architecture.channels, anchors.num_anchors_per_location()[0])
    kept = {"training": architecture.rpn_post_nms_top_n, "testing": architecture.rpn_post_nms_top_n}
    return IgnoringProposalNetwork(
        anchors,
        head,
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n=kept,
        post_nms_top_n=kept,
        nms_thresh=0.7,
    )


def _heads(
    architecture: Architecture, classes: int, min_score: float, max_detections: int
) -> IgnoringHeads:
    channels, features = architecture.channels, architecture.box_features
    mask_layers = (channels,) * architecture.mask_layers
    return IgnoringHeads(
        box_roi_pool=_pool(_BOX_CELLS, architecture.strides),
        box_head=TwoMLPHead(channels * _BOX_CELLS**2, features),
        box_predictor=FastRCNNPredictor(features, classes),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=architecture.box_batch_size_per_image,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=min_score,
        nms_thresh=0.5,
        detections_per_img=max_detections,
        # The last layer of the mask head doubles the resolution.
        mask_roi_pool=_pool(architecture.mask_size // 2, architecture.strides),
        mask_head=MaskRCNNHeads(channels, mask_layers, dilation=1),
        mask_predictor=MaskRCNNPredictor(channels, channels, classes),
    )


def _seeded(part: Any) -> SeededSampler:
    """Replace the sampler of an RPN or of RoI heads by a seeded one of the same size."""
    theirs = part.fg_bg_sampler
    part.fg_bg_sampler = SeededSampler(theirs.batch_size_per_image, theirs.positive_fraction)
    sampler: SeededSampler = part.fg_bg_sampler
    return sampler


def _pool(cells: int, strides: tuple[int, ...]) -> nn.Module:
    levels = [str(level) for level in range(len(strides))]
    pool = MultiScaleRoIAlign(levels, output_size=cells, sampling_ratio=2)
    # By default, torchvision infers both from the unpadded size of the first image. For a narrow
    # image they are wrong, and results would depend on the order of the images.
    pool.scales = [1 / stride for stride in strides]
    finest, coarsest = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
    pool.map_levels = initLevelMapper(finest, coarsest)
    module: nn.Module = pool
    return module
