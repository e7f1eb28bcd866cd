"""Inference with the trained classifier."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.classifier.network import Prm
from pipeline.common import runtime
from pipeline.common.images import warp


@lru_cache(maxsize=1)
def classifier(weights: Path) -> Prm:
    """Load the classifier from a weights file; the last one stays loaded."""
    return runtime.channels_last(Prm.load(weights), runtime.device())


def as_input(network: Prm, image: NDArray[np.uint8], image_size: int | None = None) -> Tensor:
    """Convert an image, uint8 (h, w, 3), to the input of the classifier.

    Parameters
    ----------
    image_size : height and width to which it is warped; by default those of training.

    Returns
    -------
    float32 (1, 3, image_size, image_size), 0 to 1, on the device of the classifier.

    Raises
    ------
    InputError
        If the backbone cannot divide images of this size.
    """
    return as_inputs(network, [image], image_size)


def as_inputs(
    network: Prm, images: Sequence[NDArray[np.uint8]], image_size: int | None = None
) -> Tensor:
    """Convert m images to the input of the classifier, float32 (m, 3, ...), see `as_input`."""
    device = next(network.parameters()).device
    size = image_size or network.description.image_size
    network.check_size(size)
    warped = [warp(image, size) for image in images]
    pixels = torch.from_numpy(np.stack(warped)).permute(0, 3, 1, 2)
    if runtime.on_gpu(device):
        pixels = pixels.pin_memory()  # its copy then does not wait for the GPU
    return runtime.channels_last(pixels, device) / 255


@torch.inference_mode()
def presence(network: Prm, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Predict the probability that each class is in each of m images: float32 (m, C).

    Parameters
    ----------
    images : uint8 (h_i, w_i, 3).
    """
    logits = network.presence_logits(network.backbone(as_inputs(network, images)))
    probability: NDArray[np.float32] = torch.sigmoid(logits.float()).cpu().numpy()
    return probability
