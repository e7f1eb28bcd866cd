"""Inference of a trained Mask R-CNN on photographs (He et al., section 3.1)."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from pipeline.artifacts.instances import Instances
from pipeline.backbones.resizing import fit_size, to_size
from pipeline.common import masks, runtime
from pipeline.common.images import compute_by_size
from pipeline.detectors.mask_rcnn.network import MaskRcnn, pad, padded_size

MASK_THRESHOLD = 0.5


def predict(
    network: MaskRcnn, image: NDArray[np.uint8], flip: bool
) -> tuple[Instances, NDArray[np.float32]]:
    """Detect the instances of a photograph, uint8 (h, w, 3); see `predict_all`."""
    (found,) = predict_all(network, [image], flip)
    return found


@torch.inference_mode()
def predict_all(
    network: MaskRcnn, images: Sequence[NDArray[np.uint8]], flip: bool
) -> list[tuple[Instances, NDArray[np.float32]]]:
    """Detect the instances of photographs. Empty masks are dropped.

    Photographs that are padded to the same size are computed together: what is found in one
    depends on the others up to rounding only.

    Parameters
    ----------
    images : uint8 (h_i, w_i, 3).
    flip : whether to run on the mirror images too, see `MaskRcnn.forward_mirrored`.

    Returns
    -------
    For each photograph its instances at its size, by descending score; and the score of each
    mask, float32 (n,), see `mask_scores`.
    """
    architecture = network.description.architecture
    sizes = [
        fit_size(image.shape[0], image.shape[1], architecture.min_size, architecture.max_size)
        for image in images
    ]

    def compute(numbers: list[int]) -> Iterator[tuple[Instances, NDArray[np.float32]]]:
        resized = [to_size(images[number], sizes[number]) for number in numbers]
        for number, detected in zip(numbers, _detect(network, resized, flip), strict=True):
            yield _instances(detected, sizes[number], images[number].shape[:2])

    return compute_by_size([padded_size(*size) for size in sizes], compute)


def _detect(network: MaskRcnn, resized: Sequence[Tensor], flip: bool) -> list[dict[str, Tensor]]:
    """Detect objects in images uint8 (3, h_i, w_i); returns what `MaskRcnn.forward` does."""
    device = next(network.parameters()).device
    mirrored = [image.flip(2) for image in resized] if flip else []
    padded, sizes = pad([*resized, *mirrored])
    batch = runtime.channels_last(padded, device)
    detect = network.forward_mirrored if flip else network
    with runtime.autocast(device):
        found: list[dict[str, Tensor]] = detect(batch / 255, sizes[: len(resized)])
    return found


def _instances(
    found: dict[str, Tensor], size: tuple[int, int], original: tuple[int, ...]
) -> tuple[Instances, NDArray[np.float32]]:
    """Paste the masks of an image of a `size` into the photograph, of the `original` size."""
    height, width = original
    # On the CPU: a mask is pasted at integer coordinates, and to read them from a GPU is to wait.
    boxes = found["boxes"].cpu() * torch.tensor([width / size[1], height / size[0]] * 2)
    pasted = paste_masks_in_image(found["masks"], boxes, (height, width))[:, 0]
    inside = pasted >= MASK_THRESHOLD
    kept = inside.any(2).any(1)
    instances = Instances(
        masks.encode(inside[kept].cpu().numpy()),
        (found["labels"][kept] - 1).cpu().numpy().astype(np.int16),
        found["scores"][kept].cpu().numpy(),
    )
    return instances, mask_scores(pasted[kept], inside[kept]).cpu().numpy()


def mask_scores(probabilities: Tensor, inside: Tensor) -> Tensor:
    """Compute the mean probability of the pixels of each mask ("maskness").

    Wang et al., SOLOv2, NeurIPS 2020, section 3.4.

    Parameters
    ----------
    probabilities : float (n, h, w), of each pixel.
    inside : bool (n, h, w), the masks. None is empty.

    Returns
    -------
    float (n,), 0 to 1.
    """
    return (probabilities * inside).sum((1, 2)) / inside.sum((1, 2))
