"""The cross entropy of Eqs. 7 and 9 (Kim et al., WACV 2021)."""

import torch
from torch import Tensor

# Smallest distance of a probability from 1 in log(1 - p): no log of 0.
_MARGIN = 1e-6


def softmax_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the cross entropy of softmax scores p over dimension 1, and of 1 - p.

    A term is y log p + (1 - y) log(1 - p), as in Eqs. 7 and 9.

    Parameters
    ----------
    logits : float (r, n, ...).
    target : y, 0 or 1, float of the same shape.

    Returns
    -------
    Scalar, the negative sum of all terms.
    """
    log_p = logits.log_softmax(1)
    log_rest = torch.log(-torch.expm1(log_p.clamp(max=-_MARGIN)))
    return -(target * log_p + (1 - target) * log_rest).sum()
