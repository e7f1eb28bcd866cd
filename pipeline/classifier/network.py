"""PRM: a classifier whose class scores are computed from peaks.

Zhou et al., CVPR 2018, section 3.1 (peak stimulation); WISE, section 3.1. Not published: a second
head that says which classes are present.
"""

import math
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor, nn

from pipeline.artifacts.weights import load_network
from pipeline.backbones.backbone import WholeBackbone
from pipeline.common.errors import InputError

STRIDE = 32  # of the features of a convolutional backbone, in pixels of the input
MAX_SIZE = 8192  # of an input, in pixels


class PrmDescription(BaseModel):
    """The description from which a classifier is rebuilt.

    backbone : name of a timm model.
    classes : names of the classes.
    image_size : height and width of the input, in pixels.
    upsample : factor by which class response maps are upsampled.
    """

    backbone: str
    classes: tuple[str, ...] = Field(min_length=1)
    image_size: int = Field(ge=STRIDE, le=MAX_SIZE)
    upsample: int = Field(ge=1, le=STRIDE)


class Prm(nn.Module):
    """A backbone and a 1x1 convolution to one response map per class.

    The stride is 32, or the side of a vision transformer's patches.

    Beside it, global average pooling and a linear layer predict which classes are present. They
    receive the features without passing a gradient on: the maps are those of PRM alone.

    Parameters
    ----------
    description : of the network.
    weights : of the backbone, see `WholeBackbone`.

    Raises
    ------
    InputError
        If the backbone cannot be used, or its stride does not divide the size of the input.
    """

    def __init__(self, description: PrmDescription, weights: str) -> None:
        super().__init__()
        self.description = description
        self.backbone = WholeBackbone(description.backbone, weights, STRIDE)
        self.check_size(description.image_size)
        self.head = nn.Conv2d(self.backbone.channels, len(description.classes), 1)
        self.presence_head = nn.Linear(self.backbone.channels, len(description.classes))

    @classmethod
    def load(cls, path: Path) -> "Prm":
        """Load a trained classifier. Raises InputError if the weights file is invalid."""
        return load_network(path, PrmDescription, lambda of: cls(of, weights="none")).eval()

    def check_size(self, image_size: int) -> None:
        """Raise InputError if the stride does not divide the side of an input, in pixels."""
        stride = self.backbone.stride
        if image_size % stride:
            step = math.lcm(stride, STRIDE)
            raise InputError(
                f"backbone {self.description.backbone}: its patches of {stride} pixels do not fill "
                f"an image of {image_size}; {math.ceil(image_size / step) * step} is possible"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Compute class response maps.

        Parameters
        ----------
        images : float (n, 3, h, w), 0 to 1.

        Returns
        -------
        Logits of shape (n, C, h * upsample / stride, w * upsample / stride).
        """
        return self.class_maps(self.backbone(images))

    def class_maps(self, features: Tensor) -> Tensor:
        """Compute class response maps, as `forward`, from features (n, channels, h, w)."""
        maps = self.head(features)
        return F.interpolate(maps, scale_factor=self.description.upsample, mode="bilinear")

    def presence_logits(self, features: Tensor) -> Tensor:
        """Compute the logit of each class's presence, (n, C), from features (n, channels, h, w)."""
        logits: Tensor = self.presence_head(features.detach().mean((2, 3)))
        return logits


def find_peaks(maps: Tensor) -> Tensor:
    """Find the peaks of class response maps.

    A peak is the maximum of the 3x3 window around it and at least the median of its map. Of
    equal neighbors only the first in reading order is a peak.

    Parameters
    ----------
    maps : float (n, C, h, w).

    Returns
    -------
    bool (n, C, h, w), True at peaks.
    """
    height, width = maps.shape[-2:]
    _, winner = F.max_pool2d(maps, 3, stride=1, padding=1, return_indices=True)
    own = torch.arange(height * width, device=maps.device).view(height, width)
    median = maps.flatten(2).median(2).values[..., None, None]
    return (winner == own) & (maps >= median)


def peak_scores(maps: Tensor, gradient: Literal["mean", "sum"]) -> Tensor:
    """Compute class scores as the mean value of the peaks of each map (PRM 3.1; WISE 3.1).

    Parameters
    ----------
    maps : class response maps, float (n, C, h, w).
    gradient : only peaks receive a gradient. `mean` is the gradient of the mean, as in the
        paper; `sum` is not divided by the number of peaks, as in the released code.

    Returns
    -------
    float32 (n, C), logits.
    """
    maps = maps.float()
    peaks = find_peaks(maps.detach()).to(maps.dtype)
    total = (maps * peaks).sum((2, 3))
    mean = total / peaks.sum((2, 3))
    if gradient == "mean":
        return mean
    return total + (mean - total).detach()
