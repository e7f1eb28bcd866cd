"""SharpMask: class-agnostic masks with objectness, for one window or all windows of an image.

DeepMask (Pinheiro et al., NIPS 2015) encodes a window as a vector of 512 numbers, and predicts a
coarse mask and a score from it. SharpMask (Pinheiro et al., ECCV 2016) starts a finer mask from
the same code and refines it, level by level, with the backbone's features of smaller strides.

A window is a square of `WINDOW` pixels. The network sees it with a margin of `MARGIN` pixels on
each side: a patch. Codes and scores are computed by convolutions: an image is a grid of
overlapping windows, `STRIDE` pixels apart, that share the backbone's features. Masks are computed
for selected windows only.
"""

from itertools import pairwise

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor, nn

from pipeline.backbones.backbone import Backbone

STRIDES = (2, 4, 8, 16)
STRIDE = STRIDES[-1]
PATCH = 192
WINDOW = 160
MARGIN = (PATCH - WINDOW) // 2
COARSE_SIDE = 56
OUTSIDE = 127  # gray value that pads images, close to ImageNet's mean


class SharpMaskDescription(BaseModel):
    """What is needed to rebuild a SharpMask, besides its weights.

    The numbers of channels are those of `SharpMaskParameters`. `trained_on` describes the
    supervision in words.
    """

    model_config = ConfigDict(frozen=True)

    backbone: str
    feature_channels: PositiveInt
    code_channels: PositiveInt
    score_channels: PositiveInt
    lateral_channels: PositiveInt
    refinement_channels: PositiveInt
    trained_on: str


def _without_margin(features: Tensor, stride: int) -> Tensor:
    return F.pad(features, [-MARGIN // stride] * 4)


class DeepMask(nn.Module):
    """The backbone, the code of each window, and a coarse mask and a score from each code.

    Parameters
    ----------
    description : names the backbone and the widths.
    weights : where the backbone's weights come from, as `Backbone` takes it.
    dropout : dropout probability before both layers of the score head.
    """

    def __init__(
        self, description: SharpMaskDescription, weights: str, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = Backbone(description.backbone, weights, STRIDES)
        self.backbone.freeze_batch_norm()
        self.encoder = nn.Sequential(
            nn.Conv2d(self.backbone.channels[-1], description.feature_channels, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(description.feature_channels, description.code_channels, WINDOW // STRIDE),
        )
        self.mask_head = nn.Linear(description.code_channels, COARSE_SIDE**2)
        self.score_head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Conv2d(description.code_channels, description.score_channels, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(description.score_channels, 1, 1),
        )

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute the features and the codes of all windows of images.

        Parameters
        ----------
        images : (n, 3, h, w) in 0..1, height and width multiples of 16 of at least `PATCH`.

        Returns
        -------
        features : the backbone's maps, strides 2 to 16.
        code : (n, code_channels, (h - 192) / 16 + 1, (w - 192) / 16 + 1).
        """
        features = self.backbone(images)
        return features, self.encoder(_without_margin(features[-1], STRIDE))

    def masks(self, code: Tensor) -> Tensor:
        """Compute coarse masks, logits (n, 1, 56, 56), from codes (n, code_channels)."""
        logits: Tensor = self.mask_head(code)
        return logits.view(-1, 1, COARSE_SIDE, COARSE_SIDE)

    def scores(self, code: Tensor) -> Tensor:
        """Compute objectness, logits (n, y, x), from codes (n, code_channels, y, x)."""
        logits: Tensor = self.score_head(code)
        return logits.squeeze(1)


class Refinement(nn.Module):
    """SharpMask's top-down path: from a window's code to a mask at the window's resolution.

    At each level (strides 16, 8, 4, 2), the map from the level above and the lateral features are
    added and rectified; then the channels are halved and the resolution is doubled (SharpMask,
    section 2.2). All operations after the last ReLU are linear. Here they are one sub-pixel
    convolution that computes the four pixels of each cell, in a quarter of the time.

    Parameters
    ----------
    channels : channels of the backbone's maps, strides ascending.
    description : names the widths.
    """

    def __init__(self, channels: list[int], description: SharpMaskDescription) -> None:
        super().__init__()
        widths = [description.refinement_channels // 2**level for level in range(len(STRIDES))]
        self._start = widths[0]
        self.start = nn.Linear(description.code_channels, widths[0] * (WINDOW // STRIDE) ** 2)
        self.laterals = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(below, description.lateral_channels, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(description.lateral_channels, width, 3, padding=1),
            )
            for below, width in zip(reversed(channels), widths, strict=True)
        )
        self.halvings = nn.ModuleList(
            nn.Conv2d(width, half, 3, padding=1) for width, half in pairwise(widths)
        )
        self.last = nn.Sequential(nn.Conv2d(widths[-1], 4, 3, padding=1), nn.PixelShuffle(2))

    def lateral(self, features: list[Tensor]) -> list[Tensor]:
        """Compute the lateral maps, strides 16 to 2, from features of strides 2 to 16.

        The lateral maps have no margin: the window at (y, x) of the grid begins at cell
        (y, x) * 16 / stride.
        """
        return [
            _without_margin(path(features_of_level), stride)
            for path, features_of_level, stride in zip(
                self.laterals, reversed(features), reversed(STRIDES), strict=True
            )
        ]

    def forward(self, code: Tensor, laterals: list[Tensor]) -> Tensor:
        """Compute the masks of n windows.

        Parameters
        ----------
        code : (n, code_channels).
        laterals : the windows' parts of the lateral maps, with sides 10, 20, 40 and 80.

        Returns
        -------
        Logits of shape (n, 1, 160, 160).
        """
        side = WINDOW // STRIDE
        x = self.start(code).view(-1, self._start, side, side)
        for halve, lateral in zip(self.halvings, laterals, strict=False):
            x = F.interpolate(halve(F.relu(x + lateral)), scale_factor=2.0)
        masks: Tensor = self.last(F.relu(x + laterals[-1]))
        return masks


class SharpMask(nn.Module):
    """DeepMask and refinement; rebuilt from a `SharpMaskDescription` and a weights file."""

    def __init__(
        self, description: SharpMaskDescription, weights: str, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.description = description
        self.deepmask = DeepMask(description, weights, dropout)
        self.refinement = Refinement(self.deepmask.backbone.channels, description)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Compute masks (n, 1, 160, 160) and scores (n,) of patches (n, 3, 192, 192) in 0..1."""
        features, code = self.deepmask(patches)
        masks = self.refinement(code.flatten(1), self.refinement.lateral(features))
        return masks, self.deepmask.scores(code).flatten()


def window_parts(maps: list[Tensor], ys: Tensor, xs: Tensor) -> list[Tensor]:
    """Crop windows from the maps of one image.

    Parameters
    ----------
    maps : (1, c_i, h_i, w_i) of strides 16, 8, 4 and 2.
    ys, xs : int64 (n,), the windows' positions in the grid.

    Returns
    -------
    Tensors of shape (n, c_i, 160 / stride_i, 160 / stride_i).
    """
    parts = []
    for level, stride in zip(maps, reversed(STRIDES), strict=True):
        side, step = WINDOW // stride, STRIDE // stride
        grid = level[0].unfold(1, side, step).unfold(2, side, step)
        parts.append(grid[:, ys, xs].transpose(0, 1))
    return parts
