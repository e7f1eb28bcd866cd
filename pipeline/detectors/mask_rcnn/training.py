"""Training of the detector, on a new draw of pseudo masks at each epoch (WISE, Algorithm 1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.weights import load_weights
from pipeline.backbones.resizing import fit_size, to_size
from pipeline.common import masks, runtime
from pipeline.common.parameters import Parameters
from pipeline.detectors.mask_rcnn.network import (
    Architecture,
    MaskRcnn,
    MaskRcnnDescription,
    mirror,
    pad,
)
from pipeline.pseudo_masks.supervision import Supervision
from pipeline.training.augmentation import jitter_colors
from pipeline.training.batches import EpochSample
from pipeline.training.fit import Loss, Mean, Training
from pipeline.training.schedule import Schedule

MIN_BOX_SIDE = 2


class MaskRcnnParameters(Parameters):
    """Settings of the stage `mask_rcnn`: how the detector is built and trained."""

    renamed: ClassVar[Mapping[str, str]] = {
        "flip": "hflip_prob",
        "colour_jitter": "color_jitter",
        "least_find": "min_relative_score",
        "overlap": "max_overlap",
    }

    architecture: Architecture
    weights: str = Field(description="weights of the backbone: package, hub, none, or a file")
    trainable_backbone_layers: int = Field(
        ge=0,
        le=5,
        description="number of the backbone's feature levels (of strides 32, 16, 8, 4, 2, in this "
        "order) that are trained; the others need no gradients (5; torchvision's default: 3)",
    )
    pseudo_masks: Literal["sampler", "community", "mixed"] = Field(
        description="what the detector is trained on: the sampler's draws, the instances that "
        "community found in the training images, or the two in turns, epoch by epoch"
    )
    hflip_prob: float = Field(ge=0, le=1, description="probability of a horizontal flip")
    color_jitter: float = Field(
        ge=0,
        lt=1,
        description="largest change of brightness, contrast and saturation, as a fraction",
    )
    max_background_iou: float = Field(
        ge=0,
        le=1,
        description="maximum IoU of a background region with the box of a possible object; regions "
        "above it are ignored. Possible objects are likely candidates that were not drawn, and, "
        "after the first round, detections with too low a score. 1: no limit",
    )
    rounds: PositiveInt = Field(
        description="number of trainings; from the second on, on the detections of the previous one"
    )
    min_relative_score: float = Field(
        ge=0,
        le=1,
        description="between rounds, and of the instances of community: minimum score of a "
        "detection, as a fraction of the highest score of its class in the image",
    )
    max_overlap: float = Field(
        ge=0,
        le=1,
        description="between rounds: maximum overlap of two detections of a class, as a fraction "
        "of the smaller mask",
    )
    min_vote_iou: float = Field(
        ge=0,
        le=1,
        description="between rounds: minimum IoU of the proposals that vote on a detection's mask, "
        "as in `refinement.vote`; 1: masks stay as they are",
    )
    schedule: Schedule
    seed: NonNegativeInt = Field(description="seed of new layers, order, flips and jitter")


class MaskedPhotograph(NamedTuple):
    """A photograph at the detector's size, with its instances in an epoch.

    image : uint8 (3, h, w).
    target, seed : of `MaskRcnn.losses`.
    batch_sizes : height and width of all images of its batch.
    """

    image: Tensor
    target: dict[str, Tensor]
    seed: int
    batch_sizes: list[tuple[int, int]]


class MaskedPhotographs:
    """Photographs at the detector's size, with their instances in an epoch.

    Photographs without instances are not trained on.
    """

    def __init__(self, split: Split, objects: Supervision, parameters: MaskRcnnParameters) -> None:
        self._split, self._objects, self._parameters = split, objects, parameters
        self._photographs = [image for image in split.photographs if image.id in objects]

    def __len__(self) -> int:
        return len(self._photographs)

    def aspect_ratios(self) -> NDArray[np.float64]:
        """Give width / height of each photograph."""
        return np.array([image.width / image.height for image in self._photographs])

    def __getitem__(self, sample: EpochSample) -> MaskedPhotograph:
        """Return a photograph, augmented for an epoch."""
        photograph = self._photographs[sample.item]
        instances = self._objects.instances(photograph.id, sample.epoch)
        decoded = masks.decode(instances.masks, photograph.height, photograph.width)
        size = self._size(photograph)
        image = to_size(self._split.image(photograph), size)
        shapes = F.interpolate(
            torch.from_numpy(decoded.view(np.uint8))[None], size, mode="nearest-exact"
        )[0]
        rng = sample.generator(self._parameters.seed)
        possible = self._possible(photograph, size)
        if rng.random() < self._parameters.hflip_prob:
            image, shapes, possible = image.flip(2), shapes.flip(2), mirror(possible, size)
        image = jitter_colors(image, rng, self._parameters.color_jitter)
        wanted = {**target(shapes, instances.label), "alternatives": possible}
        of_batch = [self._size(self._photographs[item]) for item in sample.batch]
        return MaskedPhotograph(image, wanted, int(rng.integers(2**63)), of_batch)

    def _size(self, photograph: Photograph) -> tuple[int, int]:
        limits = self._parameters.architecture
        return fit_size(photograph.height, photograph.width, limits.min_size, limits.max_size)

    def _possible(self, photograph: Photograph, size: tuple[int, int]) -> Tensor:
        """Return the boxes of possible objects in an image of a size, float32 (k, 4)."""
        if self._parameters.max_background_iou == 1:
            return torch.zeros(0, 4)
        corners = masks.corners(self._objects.alternatives(photograph.id).masks)
        scale = (size[1] / photograph.width, size[0] / photograph.height) * 2
        return torch.from_numpy((corners * scale).astype(np.float32))

    def collate(self, samples: Sequence[MaskedPhotograph]) -> dict[str, Any]:
        """Pad the images to a common size and stack them.

        It is that of the whole batch, also if other processes compute the rest of it: features
        near the edge, and what is sampled there, depend on the padding.
        """
        images, targets, seeds, of_batch = zip(*samples, strict=True)
        padded, sizes = pad(images, of_batch[0])
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
    boxes = mask_boxes(shapes)
    kept = (boxes[:, 2:] - boxes[:, :2] >= MIN_BOX_SIDE).all(1)
    return {
        "boxes": boxes[kept],
        "labels": torch.from_numpy(label.astype(np.int64))[kept] + 1,
        "masks": shapes[kept],
    }


def mask_boxes(shapes: Tensor) -> Tensor:
    """Compute the bounding boxes of masks.

    On a CPU, the maximum of bytes is ten times faster than `any`, which torchvision's
    `masks_to_boxes` uses.

    Parameters
    ----------
    shapes : uint8 (n, h, w), 1 inside a mask and 0 outside.

    Returns
    -------
    x1, y1, x2, y2 in pixels, float32 (n, 4). x2 and y2 are one more than the last column and row.
    The box of an empty mask is 0, 0, 0, 0.
    """
    edges = []
    for axis in (1, 2):  # left and right edge, then upper and lower edge
        inside = shapes.amax(axis)
        not_empty = inside.amax(1)
        first = inside.argmax(1)
        end = inside.shape[1] - inside.flip(1).argmax(1)
        edges.append((first * not_empty, end * not_empty))
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], 1).float()


def detector_training(
    name: str,
    split: Split,
    objects: Supervision,
    parameters: MaskRcnnParameters,
    start: Path | None = None,
) -> Training[MaskRcnn]:
    """Build the training of a detector on the photographs of a split that have objects.

    Parameters
    ----------
    name : title of the training in progress bars.
    start : weights of an earlier training to start from, instead of pretrained backbone weights.
    """
    samples = MaskedPhotographs(split, objects, parameters)
    runtime.seed_everything(parameters.seed)
    description = MaskRcnnDescription(classes=split.classes, architecture=parameters.architecture)
    network = MaskRcnn(
        description,
        parameters.weights if start is None else "none",
        max_background_iou=parameters.max_background_iou,
    )
    if start is not None:
        load_weights(start, network)
    network.backbone.train_last_layers(parameters.trainable_backbone_layers)
    runtime.channels_last(network, runtime.device())
    loss = mask_rcnn_loss(network)
    ratios = samples.aspect_ratios()
    return Training(name, network, loss, samples, parameters.schedule, parameters.seed, ratios)


def mask_rcnn_loss(network: MaskRcnn) -> Loss:
    """Return Mask R-CNN's loss function: five terms, each a mean over regions (He et al., 3)."""

    def loss(batch: dict[str, Any]) -> dict[str, Mean]:
        terms = network.losses(
            batch["images"] / 255, batch["sizes"], batch["targets"], batch["seeds"]
        )
        return {name: Mean(mean * count, count) for name, (mean, count) in terms.items()}

    return loss
