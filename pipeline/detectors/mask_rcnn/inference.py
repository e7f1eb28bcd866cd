"""Inference of a trained Mask R-CNN on a photograph (He et al., section 3.1)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from pipeline.artifacts.instances import Instances
from pipeline.backbones.resizing import fit_size, to_size
from pipeline.common import masks, runtime
from pipeline.detectors.mask_rcnn.network import MaskRcnn, pad

MASK_THRESHOLD = 0.5


@torch.inference_mode()
def predict(
    network: MaskRcnn, image: NDArray[np.uint8], flip: bool
) -> tuple[Instances, NDArray[np.float32]]:
    """Detect the instances of a photograph. Empty masks are dropped.

    Parameters
    ----------
    image : uint8 (h, w, 3).
    flip : whether to run on the mirror image too, see `MaskRcnn.forward_mirrored`.

    Returns
    -------
    Instances at the size of the photograph, by descending score; and the score of each mask,
    float32 (n,), see `mask_scores`.
    """
    height, width = image.shape[:2]
    architecture = network.description.architecture
    size = fit_size(height, width, architecture.min_size, architecture.max_size)
    device = next(network.parameters()).device
    resized = to_size(image, size)
    padded, sizes = pad([resized, resized.flip(2)] if flip else [resized])
    batch = runtime.channels_last(padded, device)
    with runtime.autocast(device):
        if flip:
            found = network.forward_mirrored(batch / 255, size)
        else:
            (found,) = network(batch / 255, sizes)
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
