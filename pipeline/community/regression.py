"""The class-agnostic box regressor (Kim et al., WACV 2021, sections 3.2.1 and 3.3.1, Eq. 5)."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from pipeline.community.oicr import PseudoLabels

# Scale of the four offsets, as in Fast R-CNN's and PCL's released code.
_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


def box_offsets(boxes: Tensor, targets: Tensor) -> Tensor:
    """Compute the offsets that move boxes to targets (R-CNN, appendix C).

    With centers x, y and sizes w, h of a box and X, Y, W, H of its target, they are
    10 (X - x) / w, 10 (Y - y) / h, 5 log(W / w) and 5 log(H / h).

    Parameters
    ----------
    boxes, targets : float (r, 4), x1 y1 x2 y2 in pixels.

    Returns
    -------
    float (r, 4).
    """
    return cast("Tensor", _CODER.encode_single(targets, boxes))


def moved_boxes(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Move boxes (r, 4) by offsets (r, 4); the inverse of `box_offsets`."""
    return cast("Tensor", _CODER.decode_single(offsets, boxes))


def regression_loss(offsets: Tensor, boxes: Tensor, pseudo: PseudoLabels, min_iou: float) -> Tensor:
    """Compute the smooth L1 loss of the offsets of regions to their nearest seed (Eq. 5).

    The class of the seed plays no part.

    Parameters
    ----------
    offsets : predicted, float (r, 4).
    boxes : of the regions, float (r, 4).
    min_iou : only regions with a higher IoU with their nearest seed are counted.

    Returns
    -------
    Scalar, the sum over coordinates and these regions, divided by the number of all regions.
    """
    matched = pseudo.overlap > min_iou
    wanted = box_offsets(boxes[matched], boxes[pseudo.seed[matched]])
    return F.smooth_l1_loss(offsets[matched], wanted, reduction="sum") / len(boxes)
