"""Training the detector on pseudo masks drawn anew at every visit (WISE 3.2, Algorithm 1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor
from torchvision.ops import masks_to_boxes

from pipeline.artifacts.split import Split
from pipeline.artifacts.weights import load_weights
from pipeline.common import masks, runtime
from pipeline.common.parameters import Parameters
from pipeline.detectors.mask_rcnn.network import (
    Architecture,
    MaskRcnn,
    MaskRcnnDescription,
    fit_size,
    pad,
    to_size,
)
from pipeline.pseudo_masks.supervision import Supervision
from pipeline.training.augmentation import jitter_colors
from pipeline.training.batches import EpochSample
from pipeline.training.fit import Loss, Mean, Training
from pipeline.training.schedule import Schedule

MIN_BOX_SIDE = 2


class MaskRcnnParameters(Parameters):
    """How the detector is built and trained."""

    renamed: ClassVar[Mapping[str, str]] = {
        "flip": "hflip_prob",
        "colour_jitter": "color_jitter",
        "least_find": "min_relative_score",
        "overlap": "max_overlap",
    }

    architecture: Architecture
    weights: str = Field(description="of the backbone: package, hub, none, or a file")
    hflip_prob: float = Field(
        ge=0, le=1, description="share of the visits that see the mirror image"
    )
    color_jitter: float = Field(
        ge=0, lt=1, description="largest change of brightness, contrast and saturation, a share"
    )
    rounds: PositiveInt = Field(
        description="trainings, each after the first going on with what the one before finds"
    )
    min_relative_score: float = Field(
        ge=0,
        le=1,
        description="least score of a find that counts, in parts of the best of its class there",
    )
    max_overlap: float = Field(
        ge=0, le=1, description="most that two finds of a class share, in parts of the smaller mask"
    )
    schedule: Schedule
    seed: NonNegativeInt = Field(description="of new layers, order, flips and jitter")


class MaskedPhotographs:
    """Photographs at the detector's size, with the objects of the visit.

    Photographs without objects are not trained on.
    """

    def __init__(self, split: Split, objects: Supervision, parameters: MaskRcnnParameters) -> None:
        self._split, self._objects, self._parameters = split, objects, parameters
        self._photographs = [shown for shown in split.photographs if shown.id in objects]

    def __len__(self) -> int:
        return len(self._photographs)

    def __getitem__(self, visit: EpochSample) -> tuple[Tensor, dict[str, Tensor], int]:
        """Give the image, uint8 (3, h, w), its target and seed: see `MaskRcnn.losses`."""
        photograph = self._photographs[visit.item]
        shown = self._objects.instances(photograph.id, visit.epoch)
        decoded = masks.decode(shown.masks, photograph.height, photograph.width)
        size = fit_size(photograph.height, photograph.width, self._parameters.architecture)
        image = to_size(self._split.image(photograph), size)
        shapes = F.interpolate(
            torch.from_numpy(decoded.view(np.uint8))[None], size, mode="nearest-exact"
        )[0]
        rng = visit.generator(self._parameters.seed)
        if rng.random() < self._parameters.hflip_prob:
            image, shapes = image.flip(2), shapes.flip(2)
        image = jitter_colors(image, rng, self._parameters.color_jitter)
        return image, target(shapes, shown.label), int(rng.integers(2**63))

    def collate(self, samples: Sequence[tuple[Tensor, dict[str, Tensor], int]]) -> dict[str, Any]:
        """Pad the images to one size."""
        images, targets, seeds = zip(*samples, strict=True)
        padded, sizes = pad(images)
        return {"images": padded, "sizes": sizes, "targets": targets, "seeds": seeds}


def target(shapes: Tensor, label: NDArray[np.int16]) -> dict[str, Tensor]:
    """Build the training target of one image from its masks.

    Masks whose box is less than `MIN_BOX_SIDE` pixels wide or high are dropped.

    Parameters
    ----------
    shapes : uint8 (n, h, w), 1 inside a mask and 0 outside.
    label : int16 (n,), index of the class of each mask.

    Returns
    -------
    The entry of `targets` that `MaskRcnn.losses` takes for this image.
    """
    boxes = masks_to_boxes(shapes)
    boxes[:, 2:] += 1  # torchvision gives the last pixel inside; a box ends at its far edge
    kept = (boxes[:, 2:] - boxes[:, :2] >= MIN_BOX_SIDE).all(1)
    return {
        "boxes": boxes[kept],
        "labels": torch.from_numpy(label.astype(np.int64))[kept] + 1,
        "masks": shapes[kept],
    }


def detector_training(
    name: str,
    split: Split,
    objects: Supervision,
    parameters: MaskRcnnParameters,
    start: Path | None = None,
) -> Training[MaskRcnn]:
    """Give the training of a detector on those of a split's photographs that have objects.

    Parameters
    ----------
    start : weights of an earlier training to go on from, in place of the backbone's alone.
    """
    samples = MaskedPhotographs(split, objects, parameters)
    runtime.seed_everything(parameters.seed)
    description = MaskRcnnDescription(classes=split.classes, architecture=parameters.architecture)
    network = MaskRcnn(description, parameters.weights if start is None else "none")
    if start is not None:
        load_weights(start, network)
    runtime.channels_last(network, runtime.device())
    loss = mask_rcnn_loss(network)
    return Training(name, network, loss, samples, parameters.schedule, parameters.seed)


def mask_rcnn_loss(network: MaskRcnn) -> Loss:
    """Make the sum of Mask R-CNN's five losses, each a mean over regions (He et al., 3)."""

    def loss(batch: dict[str, Any]) -> dict[str, Mean]:
        terms = network.losses(
            batch["images"] / 255, batch["sizes"], batch["targets"], batch["seeds"]
        )
        return {name: Mean(mean * count, count) for name, (mean, count) in terms.items()}

    return loss
