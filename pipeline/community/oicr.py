"""The detector: WSDDN's two streams, and OICR's refinement classifiers with their pseudo labels.

Bilen and Vedaldi, CVPR 2016 (WSDDN); Tang et al., CVPR 2017 (OICR); Kim et al., WACV 2021,
section 3.3.1. Everything is of one image with r regions and C classes. A label is the index of a
class plus 1; 0 is the background.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Image scores stay this far from 0 and 1, as in the released code of PCL: no log of 0.
_MARGIN = 1e-6


def wsddn_scores(of_classes: Tensor, of_regions: Tensor) -> Tensor:
    """Multiply a softmax over the classes by a softmax over the regions (WSDDN, section 3.3).

    Parameters
    ----------
    of_classes, of_regions : logits of the two streams, float (r, C).

    Returns
    -------
    float (r, C). The sum over regions is the score of each class in the image, from 0 to 1.
    """
    return of_classes.softmax(1) * of_regions.softmax(0)


def image_loss(scores: Tensor, tags: Tensor) -> Tensor:
    """Compute the cross entropy of the image's class scores and its tags (Eq. 3).

    Parameters
    ----------
    scores : of `wsddn_scores`, float (r, C).
    tags : bool (C,), the classes in the image.

    Returns
    -------
    Scalar, a sum over classes.
    """
    of_image = scores.sum(0).clamp(_MARGIN, 1 - _MARGIN)
    return -torch.where(tags, of_image.log(), (1 - of_image).log()).sum()


@dataclass(frozen=True)
class PseudoLabels:
    """What the regions of an image are taken for, without a gradient.

    label : int64 (r,), 0 for the background.
    weight : float (r,), score of the nearest seed; 0 if no seed is near.
    seed : int64 (r,), index of the nearest seed.
    overlap : float (r,), IoU with the nearest seed.
    """

    label: Tensor
    weight: Tensor
    seed: Tensor
    overlap: Tensor


@torch.no_grad()
def pseudo_labels(
    scores: Tensor, iou: Tensor, tags: Tensor, foreground_iou: float, ignored_iou: float
) -> PseudoLabels:
    """Label the regions around the top-scoring region of each tagged class, its seed (OICR, 3.3).

    Of equal scores, and of equally near seeds, the first one counts. In an image without tags,
    all regions are background, with weight 1: that is certain.

    Parameters
    ----------
    scores : float (r, C), of the detector or of the preceding refinement classifier.
    iou : IoU of the boxes of each two regions, float (r, r).
    tags : bool (C,), the classes in the image.
    foreground_iou : regions with at least this IoU with the nearest seed get its class.
    ignored_iou : regions with a lower IoU than this with every seed get weight 0.
    """
    tagged = tags.nonzero()[:, 0]
    if len(tagged) == 0:
        zeros = torch.zeros_like(scores[:, 0])
        return PseudoLabels(zeros.long(), zeros + 1, zeros.long(), zeros)
    best, seed = scores[:, tagged].max(0)
    overlap, nearest = iou[:, seed].max(1)
    return PseudoLabels(
        label=torch.where(overlap >= foreground_iou, tagged[nearest] + 1, 0),
        weight=best[nearest] * (overlap >= ignored_iou),
        seed=seed[nearest],
        overlap=overlap,
    )


def refinement_loss(logits: Tensor, pseudo: PseudoLabels) -> Tensor:
    """Compute the weighted cross entropy of a refinement classifier (Eq. 4).

    Parameters
    ----------
    logits : float (r, C + 1), background first.

    Returns
    -------
    Scalar, a mean over regions.
    """
    of_labels = logits.log_softmax(1).gather(1, pseudo.label[:, None])[:, 0]
    return -(pseudo.weight * of_labels).mean()
