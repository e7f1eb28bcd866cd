"""Photographs at the size that a network takes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import resize


def fit_size(
    height: int, width: int, min_size: int, max_size: int, divisor: int = 1
) -> tuple[int, int]:
    """Compute the size of a resized photograph (height, width), multiples of `divisor`.

    Its shorter side is about `min_size`, unless its longer side would then exceed `max_size`.
    """
    scale = min(min_size / min(height, width), max_size / max(height, width))
    return (
        max(1, round(height * scale / divisor)) * divisor,
        max(1, round(width * scale / divisor)) * divisor,
    )


def to_size(image: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Resize a photograph (h, w, 3) to uint8 (3, *size)."""
    resized: Tensor = resize(torch.from_numpy(image.transpose(2, 0, 1).copy()), list(size))
    return resized
