"""Instances that the trained detector finds in photographs (WISE 3.2; He et al., 3.1)."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torchvision.models.detection.roi_heads import paste_masks_in_image

from pipeline import masks, runtime
from pipeline.artifacts.instances import Instances
from pipeline.classifier import classifier, presence
from pipeline.images import read_image
from pipeline.networks.mask_rcnn import MaskRcnn, fit_size, pad, to_size
from pipeline.parameters import Parameters

MASK_THRESHOLD = 0.5


class PredictionsParameters(Parameters):
    """Which detections are kept."""

    score_threshold: float = Field(ge=0, lt=1, description="least confidence of a detection")
    detections: PositiveInt = Field(description="most of them an image (COCO: 100)")
    presence: float = Field(
        ge=0, le=1, description="weight of the classifier in saying which classes an image has"
    )
    flip: bool = Field(description="see the mirror image too, in twice the time")
    overlap: float = Field(
        ge=0,
        le=1,
        description="most that two of a class share, in parts of the smaller mask; 1: no limit",
    )


@dataclass(frozen=True)
class Predictor:
    """Detects the instances of photographs.

    `weights` is the detector's file; `of_classifier` the classifier's, without which
    `parameters.presence` counts as 0.
    """

    weights: Path
    parameters: PredictionsParameters
    of_classifier: Path | None = None

    def __call__(self, photograph: Path) -> Instances:
        """Detect the instances of one photograph, at its own size, by descending score."""
        network = _network(self.weights, self.parameters)
        image = read_image(photograph)
        found = predict(network, image, self.parameters.flip)
        found = without_parts(found, self.parameters.overlap)
        if self.parameters.presence == 0 or self.of_classifier is None:
            return found
        classes = presence(classifier(self.of_classifier), image)
        return rescored(found, classes, self.parameters.presence)


@lru_cache(maxsize=1)
def _network(weights: Path, parameters: PredictionsParameters) -> MaskRcnn:
    network = MaskRcnn.load(weights, parameters.score_threshold, parameters.detections)
    return network.to(runtime.device()).to(memory_format=torch.channels_last)


@torch.inference_mode()
def predict(network: MaskRcnn, image: NDArray[np.uint8], flip: bool) -> Instances:
    """Detect the instances of a photograph (h, w, 3); masks without a pixel are dropped.

    With `flip` by its mirror image too: see `MaskRcnn.forward_mirrored`.
    """
    height, width = image.shape[:2]
    size = fit_size(height, width, network.description.architecture)
    device = next(network.parameters()).device
    resized = to_size(image, size)
    padded, sizes = pad([resized, resized.flip(2)] if flip else [resized])
    batch = padded.to(device, memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        if flip:
            found = network.forward_mirrored(batch / 255, size)
        else:
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


def without_parts(found: Instances, most: float) -> Instances:
    """Drop what shares more than `most` of the smaller mask with a better one of its class.

    Not published. Suppression by boxes leaves a head beside its animal; true objects of a class
    hide each other, and share few pixels.
    """
    if most == 1:
        return found
    same_class = found.label[:, None] == found.label
    return found.take(masks.unlike(masks.overlap(found.masks) * same_class, most))


def rescored(found: Instances, present: NDArray[np.float32], weight: float) -> Instances:
    """Let a classifier say which classes there are, and the detector where.

    Not published. A detection's score s is s / m in parts of the best of its class in the image,
    times the presence of the class: the classifier's probability p, the detector's m, or what lies
    between, p ** weight * m ** (1 - weight).

    Parameters
    ----------
    present : float32 (classes,), the classifier's probabilities.
    """
    score = found.score * (present[found.label] / found.best_of_class()) ** weight
    order = np.argsort(-score, kind="stable")
    return replace(found, score=score).take(order)
