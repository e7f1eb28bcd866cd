"""The instance segmentation head, and its ensemble with the activation maps.

Kim et al., WACV 2021, sections 3.2.3, 3.3.3 and 3.4. Maps have T x T cells over the box of a
region. A label is the index of a class plus 1; 0 is the background.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.community.cross_entropy import softmax_cross_entropy

CONVOLUTIONS = 5


class SegmentationHead(nn.Module):
    """Five convolutions on the features of a region, and one output per class.

    `first` is a 1 x 1 convolution, which may be computed before upsampling: the result is the
    same as after it. The others are 3 x 3.

    Parameters
    ----------
    channels : of the features.
    width : channels of the convolutions.
    outputs : number of classes and the background.
    """

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 1)
        others = [nn.Conv2d(width, width, 3, padding=1) for _ in range(CONVOLUTIONS - 1)]
        self.others = nn.Sequential(*(nn.Sequential(layer, nn.ReLU()) for layer in others))
        self.output = nn.Conv2d(width, outputs, 1)

    def forward(self, convolved: Tensor) -> Tensor:
        """From the output of `first` (r, width, T, T) to logits (r, outputs, T, T)."""
        logits: Tensor = self.output(self.others(convolved.relu()))
        return logits


def upsample(features: Tensor, cells: int) -> Tensor:
    """Resize features (r, channels, h, w) to T x T cells, bilinearly."""
    return F.interpolate(features, (cells, cells), mode="bilinear")


@torch.no_grad()
def segmentation_target(masks: Tensor, label: Tensor, classes: int) -> Tensor:
    """Place the generated mask of each region in the map of its class.

    The background is its complement; the maps of other classes are empty. A background region
    is background everywhere.

    Parameters
    ----------
    masks : of Eq. 1, for the class of each region, bool (r, T, T).
    label : int64 (r,).
    classes : C.

    Returns
    -------
    float32 (r, C + 1, T, T), 0 or 1, with sum 1 in each cell.
    """
    of_cells = torch.where(masks, label[:, None, None], 0)
    return F.one_hot(of_cells, classes + 1).permute(0, 3, 1, 2).float()


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the cross entropy of all cells (Eq. 9).

    Parameters
    ----------
    logits, target : float (r, C + 1, T, T).

    Returns
    -------
    Scalar, a sum over classes and mean over cells and regions; 0 without regions.
    """
    regions, _, height, width = logits.shape
    return softmax_cross_entropy(logits, target) / max(1, regions * height * width)


def ensemble(generated: Tensor, segmented: Tensor) -> Tensor:
    """Average the activation map and the segmentation of each region (Eq. 10)."""
    return (generated + segmented) / 2
