"""Inference of a trained Mask R-CNN on a photograph (He et al., section 3.1)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection.roi_heads import paste_masks_in_image

from pipeline.artifacts.instances import Instances
from pipeline.backbones.resizing import fit_size, to_size
from pipeline.common import masks, runtime
from pipeline.detectors.mask_rcnn.network import MaskRcnn, pad

MASK_THRESHOLD = 0.5


@torch.inference_mode()
def predict(network: MaskRcnn, image: NDArray[np.uint8], flip: bool) -> Instances:
    """Detect the instances of a photograph. Empty masks are dropped.

    Parameters
    ----------
    image : uint8 (h, w, 3).
    flip : whether to run on the mirror image too, see `MaskRcnn.forward_mirrored`.

    Returns
    -------
    Instances at the size of the photograph, by descending score.
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
    pasted = paste_masks_in_image(found["masks"], boxes, (height, width))[:, 0] >= MASK_THRESHOLD
    kept = pasted.any(2).any(1)
    return Instances(
        masks.encode(pasted[kept].cpu().numpy()),
        (found["labels"][kept] - 1).cpu().numpy().astype(np.int16),
        found["scores"][kept].cpu().numpy(),
    )
