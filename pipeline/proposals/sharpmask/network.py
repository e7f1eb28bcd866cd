"""SharpMask: class-agnostic masks with objectness, of one window or of all windows of an image.

DeepMask (Pinheiro et al., NIPS 2015) codes what lies in a window in 512 numbers, from which it
gives a coarse mask and a score. SharpMask (Pinheiro et al., ECCV 2016) starts a finer mask from
the same code and sharpens it, level by level, with the backbone's features of smaller strides.

A window is a square of `WINDOW` pixels; it is seen with a margin of `MARGIN` pixels around it,
which makes a patch. All up to code and score is a convolution, so that an image is a grid of
overlapping windows, `STRIDE` pixels apart, that share the features of the backbone; what only
chosen windows need is computed for those.
"""

from itertools import pairwise

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from pipeline.backbones.backbone import Backbone

STRIDES = (2, 4, 8, 16)
STRIDE = STRIDES[-1]
PATCH = 192
WINDOW = 160
MARGIN = (PATCH - WINDOW) // 2
COARSE_SIDE = 56
OUTSIDE = 127  # grey, to an ImageNet network nothing: what pads an image


class Description(BaseModel):
    """What a SharpMask is rebuilt from, beside its weights.

    `features`, `code`, `score`, `lateral` and `refinement` are numbers of channels; the last
    halves at each of the four levels. `trained_on` is a sentence for whoever asks what
    supervision the proposals have had.
    """

    model_config = ConfigDict(frozen=True)

    backbone: str
    feature_channels: int
    code_channels: int
    score_channels: int
    lateral_channels: int
    refinement_channels: int
    trained_on: str


def _without_margin(features: Tensor, stride: int) -> Tensor:
    return F.pad(features, [-MARGIN // stride] * 4)


class DeepMask(nn.Module):
    """The backbone, the code of every window, and from it a coarse mask and a score.

    Parameters
    ----------
    description : names the backbone and the widths.
    weights : where the backbone's weights come from, as `Backbone` takes it.
    dropout : in front of both layers of the score head.
    """

    def __init__(self, description: Description, weights: str, dropout: float = 0.0) -> None:
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
        """Features and codes of all windows of images.

        Parameters
        ----------
        images : (n, 3, h, w) in 0..1, height and width multiples of 16 of at least `PATCH`.

        Returns
        -------
        features : the backbone's maps, strides 2 to 16.
        code : (n, code, (h - 192) / 16 + 1, (w - 192) / 16 + 1).
        """
        features = self.backbone(images)
        return features, self.encoder(_without_margin(features[-1], STRIDE))

    def masks(self, code: Tensor) -> Tensor:
        """Coarse masks, logits (n, 1, 56, 56), from codes (n, code)."""
        logits: Tensor = self.mask_head(code)
        return logits.view(-1, 1, COARSE_SIDE, COARSE_SIDE)

    def scores(self, code: Tensor) -> Tensor:
        """Objectness, logits (n, y, x), from codes (n, code, y, x)."""
        logits: Tensor = self.score_head(code)
        return logits.squeeze(1)


class Refinement(nn.Module):
    """SharpMask's top-down path: from a window's code to a mask at the window's resolution.

    At each level (strides 16, 8, 4, 2), what comes from above and the lateral features are
    added, rectified, halved in width and doubled in resolution (SharpMask, section 2.2). What
    follows the last rectifier is linear, so it is one sub-pixel convolution here, straight to
    the four pixels of each cell, which takes a quarter of the time.

    Parameters
    ----------
    channels : of the backbone's maps, strides ascending.
    description : names the widths.
    """

    def __init__(self, channels: list[int], description: Description) -> None:
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
        """From features, strides 2 to 16, to the lateral maps, strides 16 to 2.

        They are without the margin: a window at (y, x) of the grid begins at cell
        (y, x) * 16 / stride.
        """
        return [
            _without_margin(path(features_of_level), stride)
            for path, features_of_level, stride in zip(
                self.laterals, reversed(features), reversed(STRIDES), strict=True
            )
        ]

    def forward(self, code: Tensor, laterals: list[Tensor]) -> Tensor:
        """Masks of n windows.

        Parameters
        ----------
        code : (n, code).
        laterals : the windows' parts of the lateral maps: sides 10, 20, 40 and 80.

        Returns
        -------
        logits of shape (n, 1, 160, 160).
        """
        side = WINDOW // STRIDE
        x = self.start(code).view(-1, self._start, side, side)
        for halve, lateral in zip(self.halvings, laterals, strict=False):
            x = F.interpolate(halve(F.relu(x + lateral)), scale_factor=2.0)
        masks: Tensor = self.last(F.relu(x + laterals[-1]))
        return masks


class SharpMask(nn.Module):
    """Both networks; `Description` and a state (`pipeline.artifacts.weights`) rebuild them."""

    def __init__(self, description: Description, weights: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.description = description
        self.deepmask = DeepMask(description, weights, dropout)
        self.refinement = Refinement(self.deepmask.backbone.channels, description)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """From patches (n, 3, 192, 192) in 0..1 to masks (n, 1, 160, 160) and scores (n,)."""
        features, code = self.deepmask(patches)
        masks = self.refinement(code.flatten(1), self.refinement.lateral(features))
        return masks, self.deepmask.scores(code).flatten()


def window_parts(maps: list[Tensor], ys: Tensor, xs: Tensor) -> list[Tensor]:
    """Cut windows out of the maps of one image.

    Parameters
    ----------
    maps : (1, c_i, h_i, w_i) of strides 16, 8, 4 and 2.
    ys, xs : integer (n,), the windows' places in the grid.

    Returns
    -------
    tensors of shape (n, c_i, 160 / stride_i, 160 / stride_i).
    """
    parts = []
    for level, stride in zip(maps, reversed(STRIDES), strict=True):
        side, step = WINDOW // stride, STRIDE // stride
        grid = level[0].unfold(1, side, step).unfold(2, side, step)
        parts.append(grid[:, ys, xs].transpose(0, 1))
    return parts
