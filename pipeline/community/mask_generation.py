"""Instance mask generation: class activation maps inside of each region.

Kim et al., WACV 2021, sections 3.2.2 and 3.3.2. There are r regions, C classes, and maps of T x T
cells over the box of a region. A label is the index of a class plus 1; 0 is the background.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.community.cross_entropy import softmax_cross_entropy

Normalization = Literal["softmax", "max"]


class ActivationMaps(nn.Module):
    """The activation maps of one level: smoothed features, and a linear classifier of each cell.

    Parameters
    ----------
    channels : of the features.
    outputs : number of maps per region: the classes, and the background before them if any.
    smooth : whether features f are smoothed to log(1 + f), so that their peaks count for less.
    """

    def __init__(self, channels: int, outputs: int, *, smooth: bool) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(channels, outputs, 1)
        self._smooth = smooth
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """From features (r, channels, T, T), at least 0, to maps (r, outputs, T, T)."""
        maps: Tensor = self.classifier(features.log1p() if self._smooth else features)
        return maps


def gaussian_weights(cells: int, sigma: float) -> Tensor:
    """Compute the weights of the cells of a region, which fall off from its center.

    Parameters
    ----------
    cells : T.
    sigma : of the isotropic Gaussian, as a fraction of the region's side. As it grows, the
        weights become equal.

    Returns
    -------
    float32 (T, T), with sum 1.
    """
    position = (torch.arange(cells) + 0.5) / cells - 0.5
    of_side = torch.exp(-(position**2) / (2 * sigma**2))
    of_side = of_side / of_side.sum()
    return of_side[:, None] * of_side


def weighted_gap(maps: Tensor, weights: Tensor) -> Tensor:
    """Average maps (r, n, T, T) over their cells with weights (T, T): logits (r, n)."""
    return (maps * weights).sum((2, 3))


def mask_generation_loss(logits: Sequence[Tensor], label: Tensor, *, background: bool) -> Tensor:
    """Compute the cross entropy of the classes of all levels (Eqs. 7 and 8).

    Parameters
    ----------
    logits : of each level, float (r, C + 1) with the background first, or (r, C) without it.
    label : pseudo labels of the detector, int64 (r,).
    background : whether there is a background class. Without it, background regions are left out.

    Returns
    -------
    Scalar, the sum over levels of the mean over regions; 0 without regions.
    """
    if not background:
        kept = label > 0
        logits, label = [of_level[kept] for of_level in logits], label[kept] - 1
    target = F.one_hot(label, logits[0].shape[1]).to(logits[0].dtype)
    total = torch.stack([softmax_cross_entropy(of_level, target) for of_level in logits]).sum()
    return total / max(1, len(label))


def normalized_maps(maps: Tensor, how: Normalization) -> Tensor:
    """Bring activation maps (r, n, T, T) to values from 0 to 1.

    Parameters
    ----------
    how : `softmax` over the n classes in each cell, or `max`: negative values become 0, and each
        map is divided by its maximum.
    """
    if how == "softmax":
        return maps.softmax(1)
    positive = maps.clamp(min=0)
    return positive / positive.amax((2, 3), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def mean_maps(levels: Sequence[Tensor], how: Normalization) -> Tensor:
    """Average the normalized maps (r, n, T, T) of all levels: the left side of Eq. 1."""
    return torch.stack([normalized_maps(maps, how) for maps in levels]).mean(0)


def above(maps: Tensor, threshold: float) -> Tensor:
    """Select the cells above a threshold (Eqs. 1 and 10); a cell at the threshold is outside."""
    return maps > threshold
