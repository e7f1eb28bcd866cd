"""PRM: a fully convolutional classifier that is scored by the peaks of its class maps.

Zhou et al., CVPR 2018 (3.1, peak stimulation); WISE, 3.1.
"""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import Tensor, nn

from pipeline.artifacts.weights import load_weights, read_description
from pipeline.backbones.backbone import Backbone

STRIDE = 32


class PrmDescription(BaseModel):
    """What a classifier is rebuilt from; `image_size` is the side of its input, in pixels."""

    backbone: str
    classes: tuple[str, ...]
    image_size: int
    upsample: int


class Prm(nn.Module):
    """A backbone to stride 32 and a 1x1 convolution to a response map for every class.

    `weights` are those of the backbone: see `Backbone`.
    """

    def __init__(self, description: PrmDescription, weights: str) -> None:
        super().__init__()
        self.description = description
        self.backbone = Backbone(description.backbone, weights, (STRIDE,))
        self.head = nn.Conv2d(self.backbone.channels[0], len(description.classes), 1)

    @classmethod
    def load(cls, path: Path) -> "Prm":
        """Rebuild a trained classifier from its weights file, or raise InputError."""
        network = cls(read_description(path, PrmDescription), weights="none")
        load_weights(path, network)
        return network.eval()

    def forward(self, images: Tensor) -> Tensor:
        """From images (n, 3, h, w) in 0..1 to class response maps (n, C, h u / 32, w u / 32).

        u is `upsample`, the factor by which the maps are magnified before peaks are sought.
        """
        maps = self.head(self.backbone(images)[0])
        return F.interpolate(maps, scale_factor=self.description.upsample, mode="bilinear")


def find_peaks(maps: Tensor) -> Tensor:
    """Where the maps have peaks: bool, of the shape (n, C, h, w) of the maps.

    A peak is the maximum of the 3x3 window around it and at least the median of its map. Of
    equal neighbours the first in reading order counts, so that a plateau is not all peaks.
    """
    height, width = maps.shape[-2:]
    _, winner = F.max_pool2d(maps, 3, stride=1, padding=1, return_indices=True)
    own = torch.arange(height * width, device=maps.device).view(height, width)
    median = maps.flatten(2).median(2).values[..., None, None]
    return (winner == own) & (maps >= median)


def peak_scores(maps: Tensor, gradient: Literal["mean", "sum"]) -> Tensor:
    """Score every class by the mean height of its peaks (PRM 3.1; WISE 3.1): shape (n, C).

    The gradient reaches the peaks alone. `mean` gives each its share, as in the paper;
    `sum` does without the division by their number, as the released code.
    """
    maps = maps.float()
    peaks = find_peaks(maps.detach()).to(maps.dtype)
    total = (maps * peaks).sum((2, 3))
    mean = total / peaks.sum((2, 3))
    if gradient == "mean":
        return mean
    return total + (mean - total).detach()
