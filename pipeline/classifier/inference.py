"""The trained classifier, as all that come after its training see it."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.classifier.network import Prm, peak_scores
from pipeline.common import runtime
from pipeline.common.images import warp


@lru_cache(maxsize=1)
def classifier(weights: Path) -> Prm:
    """Give the classifier in a weights file, which stays loaded."""
    return runtime.channels_last(Prm.load(weights), runtime.device())


def as_input(network: Prm, image: NDArray[np.uint8]) -> Tensor:
    """Warp an image (h, w, 3) to what the classifier takes, (1, 3, side, side), on its device."""
    device = next(network.parameters()).device
    pixels = torch.from_numpy(warp(image, network.description.image_size).copy()).to(device)
    return runtime.channels_last(pixels.permute(2, 0, 1)[None] / 255, device)


@torch.inference_mode()
def presence(network: Prm, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probability that each class is in an image (h, w, 3): float32 (classes,)."""
    scores = peak_scores(network(as_input(network, image)), "mean")[0]
    probability: NDArray[np.float32] = torch.sigmoid(scores.float()).cpu().numpy()
    return probability
