"""Instances that the trained detector finds in photographs (WISE 3.2; He et al., 3.1)."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torchvision.models.detection.roi_heads import paste_masks_in_image

from pipeline import masks, runtime
from pipeline.artifacts.instances import Instances
from pipeline.images import read_image
from pipeline.networks.mask_rcnn import MaskRcnn, fit_size, pad, to_size
from pipeline.parameters import Parameters

MASK_THRESHOLD = 0.5


class PredictionsParameters(Parameters):
    """Which detections are kept."""

    score_threshold: float = Field(ge=0, lt=1, description="least confidence of a detection")
    detections: PositiveInt = Field(description="most of them an image (COCO: 100)")


@dataclass(frozen=True)
class Predictor:
    """Detects the instances of photographs; `weights` is the detector's file."""

    weights: Path
    parameters: PredictionsParameters

    def __call__(self, photograph: Path) -> Instances:
        """Detect the instances of one photograph, at its own size, by descending score."""
        network = _network(self.weights, self.parameters)
        return predict(network, read_image(photograph))


@lru_cache(maxsize=1)
def _network(weights: Path, parameters: PredictionsParameters) -> MaskRcnn:
    network = MaskRcnn.load(weights, parameters.score_threshold, parameters.detections)
    return network.to(runtime.device()).to(memory_format=torch.channels_last)


@torch.inference_mode()
def predict(network: MaskRcnn, image: NDArray[np.uint8]) -> Instances:
    """Detect the instances of a photograph (h, w, 3); masks without a pixel are dropped."""
    height, width = image.shape[:2]
    size = fit_size(height, width, network.description.architecture)
    device = next(network.parameters()).device
    padded, sizes = pad([to_size(image, size)])
    batch = padded.to(device, memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        (found,) = network(batch / 255, sizes)
    magnification = torch.tensor([width / size[1], height / size[0]] * 2, device=device)
    boxes = found["boxes"] * magnification
    pasted = paste_masks_in_image(found["masks"], boxes, (height, width))[:, 0] >= MASK_THRESHOLD
    kept = pasted.any(2).any(1)
    return Instances(
        masks.encode(pasted[kept].cpu().numpy()),
        (found["labels"][kept] - 1).cpu().numpy().astype(np.int16),
        found["scores"][kept].cpu().numpy(),
    )
