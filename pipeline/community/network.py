"""The network of community learning (Kim et al., WACV 2021, sections 3.2 and 4.1, figure 2).

Images are computed one by one: regions of one image make one bag. A label is the index in
`description.classes` plus 1; 0 is the background.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch
from pydantic import BaseModel, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torchvision.ops import roi_align

from pipeline.artifacts.weights import load_network
from pipeline.backbones.region_backbone import REGION_CELLS, RegionBackbone
from pipeline.common.parameters import Parameters
from pipeline.community.mask_generation import (
    ActivationMaps,
    Normalization,
    gaussian_weights,
    mean_maps,
)
from pipeline.community.segmentation import SegmentationHead, upsample


class CommunityArchitecture(Parameters):
    """Which parts the network has, and their sizes. The paper's values are in parentheses."""

    backbone: str = Field(
        description="a timm EfficientNet, ResNet or VGG (resnet50 with GN, vgg16)"
    )
    refinements: PositiveInt = Field(description="number of refinement classifiers K (3)")
    regression: bool = Field(description="whether there is the box regressor (true)")
    mask_generation: bool = Field(
        description="whether masks are generated from activation maps (true); without, a mask "
        "is its box"
    )
    segmentation: bool = Field(
        description="whether there is the segmentation head (true); needs mask_generation"
    )
    cells: PositiveInt = Field(description="cells per side of activation maps and masks, T (28)")
    width: PositiveInt = Field(
        description="channels of the features of activation maps and of the segmentation head"
    )
    background_class: bool = Field(
        description="whether activation maps have a background class (true)"
    )
    gap_sigma: PositiveFloat = Field(
        description="sigma of the weighted average pooling, as a fraction of a region's side; a "
        "large value is plain average pooling"
    )
    smooth_features: bool = Field(
        description="whether features f of activation maps are smoothed to log(1 + f) (true)"
    )
    map_normalization: Normalization = Field(
        description="activation maps as values from 0 to 1; softmax: over the classes and the "
        "background; max: divided by the maximum of the map"
    )
    mask_threshold: float = Field(
        ge=0, lt=1, description="cells of an activation map above it are in the mask (Eqs. 1, 10)"
    )
    frozen_levels: NonNegativeInt = Field(
        le=3, description="shared levels of the backbone that are not trained; 1: to stride 8"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.segmentation and not self.mask_generation:
            raise ValueError("segmentation needs mask_generation: it is trained on those masks")
        if self.map_normalization == "softmax" and not self.background_class:
            raise ValueError("map_normalization softmax needs background_class; set it to max")
        return self


class CommunityDescription(BaseModel):
    """What a network is rebuilt from."""

    classes: tuple[str, ...]
    architecture: CommunityArchitecture


@dataclass(frozen=True)
class Regions:
    """What the detector says of the r regions of an image.

    features : of the layers per region, float (r, channels, h, w).
    of_classes, of_regions : logits of WSDDN's two streams, float (r, C).
    refined : logits of the K refinement classifiers, float (K, r, C + 1), background first.
    offsets : of the boxes, float (r, 4); 0 without the regressor.
    """

    features: Tensor
    of_classes: Tensor
    of_regions: Tensor
    refined: Tensor
    offsets: Tensor

    def scores(self) -> Tensor:
        """Average the softmax of the refinement classifiers: float (r, C + 1)."""
        return self.refined.softmax(2).mean(0)


class Community(nn.Module):
    """Detector, mask generation and segmentation on shared features.

    Parameters
    ----------
    description : the classes and the architecture.
    weights : weights of the backbone, see `RegionBackbone`.
    """

    gap_weights: Tensor

    def __init__(self, description: CommunityDescription, weights: str) -> None:
        super().__init__()
        self.description = description
        architecture, classes = description.architecture, len(description.classes)
        self.backbone = RegionBackbone(architecture.backbone, weights, architecture.frozen_levels)
        channels, cells = self.backbone.channels, architecture.cells
        self.streams = _linear(channels, 2 * classes)
        self.refinements = _linear(channels, architecture.refinements * (classes + 1))
        if architecture.regression:
            self.regressor = _linear(channels, 4)
        # Three levels: two maps and the features per region, or the three maps of VGG.
        of_levels = [*self.backbone.level_channels, channels][:3]
        if architecture.mask_generation:
            outputs, smooth = classes + architecture.background_class, architecture.smooth_features
            self.laterals = nn.ModuleList(nn.Conv2d(c, architecture.width, 1) for c in of_levels)
            self.maps = nn.ModuleList(
                ActivationMaps(architecture.width, outputs, smooth=smooth) for _ in of_levels
            )
            self.register_buffer("gap_weights", gaussian_weights(cells, architecture.gap_sigma))
        if architecture.segmentation:
            self.segmentation = SegmentationHead(of_levels[2], architecture.width, classes + 1)

    @classmethod
    def load(cls, path: Path) -> "Community":
        """Load a trained network from its weights file, or raise InputError."""
        return load_network(path, CommunityDescription, partial(cls, weights="none")).eval()

    def detect(self, levels: list[Tensor], boxes: Tensor) -> Regions:
        """Compute the scores and offsets of regions (section 3.2.1).

        Parameters
        ----------
        levels : feature maps of one image, of `backbone`.
        boxes : float (r, 4), x1 y1 x2 y2 in pixels of the image that the maps are of.
        """
        classifiers, regressed = self.description.architecture.refinements, boxes.new_zeros(())
        pooled = self._pool(levels[-1], boxes, self.backbone.strides[-1], REGION_CELLS, ratio=2)
        features = self.backbone.of_regions(pooled)
        vectors = features.mean((2, 3))
        of_classes, of_regions = self.streams(vectors).chunk(2, 1)
        refined = self.refinements(vectors).unflatten(1, (classifiers, -1)).transpose(0, 1)
        if self.description.architecture.regression:
            regressed = self.regressor(vectors)
        return Regions(features, of_classes, of_regions, refined, regressed.expand(len(boxes), 4))

    def activation_maps(
        self, levels: list[Tensor], boxes: Tensor, features: Tensor
    ) -> list[Tensor]:
        """Compute the activation maps of regions at three levels (section 3.2.2).

        The convolution of a level is 1 x 1 and is computed before pooling or upsampling, which
        gives the same result as after it.

        Parameters
        ----------
        levels, boxes : as of `detect`.
        features : of the same regions, float (r, channels, h, w).

        Returns
        -------
        For each level float (r, C + 1, T, T), background first; (r, C, T, T) without that class.
        """
        cells, third = self.description.architecture.cells, self.laterals[2]
        places = zip(self.laterals, levels[:2], self.backbone.strides, strict=False)
        pooled = [
            self._pool(lateral(level), boxes, stride, cells, ratio=1)
            for lateral, level, stride in places
        ]
        pooled.append(self._third_level(third, levels, boxes, features))
        return [maps(level.relu()) for maps, level in zip(self.maps, pooled, strict=True)]

    def segment(self, levels: list[Tensor], boxes: Tensor, features: Tensor) -> Tensor:
        """Compute the segmentation of regions (section 3.2.3).

        Parameters
        ----------
        levels, boxes, features : as of `activation_maps`.

        Returns
        -------
        Logits, float (r, C + 1, T, T), background first.
        """
        head = self.segmentation
        logits: Tensor = head(self._third_level(head.first, levels, boxes, features))
        return logits

    def maps_of_labels(self, levels: list[Tensor], label: Tensor) -> Tensor:
        """Average the activation maps of the levels, for one class per region (Eq. 1).

        Parameters
        ----------
        levels : of `activation_maps`.
        label : int64 (r,). For background regions the map of some class is given.

        Returns
        -------
        float (r, T, T), from 0 to 1.
        """
        architecture = self.description.architecture
        maps = mean_maps(levels, architecture.map_normalization)
        channel = label if architecture.background_class else (label - 1).clamp(min=0)
        return maps[torch.arange(len(label), device=label.device), channel]

    def _third_level(
        self, convolution: nn.Module, levels: list[Tensor], boxes: Tensor, features: Tensor
    ) -> Tensor:
        """Convolve the deepest features, and bring them to T x T cells per region."""
        cells = self.description.architecture.cells
        if len(levels) == 3:
            return self._pool(
                convolution(levels[2]), boxes, self.backbone.strides[2], cells, ratio=1
            )
        return upsample(convolution(features), cells)

    def _pool(self, level: Tensor, boxes: Tensor, stride: int, cells: int, ratio: int) -> Tensor:
        pooled: Tensor = roi_align(
            level, [boxes], cells, 1 / stride, sampling_ratio=ratio, aligned=True
        )
        return pooled


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A fully connected layer with weights from a Gaussian of 0.01 (section 4.2)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
