"""Training the detector on pseudo masks drawn anew at every visit (WISE 3.2, Algorithm 1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from pipeline import masks, runtime
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import Instances
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.artifacts.weights import load_weights
from pipeline.augmentation import jitter_colours
from pipeline.errors import InputError
from pipeline.networks.mask_rcnn import (
    Architecture,
    MaskRcnn,
    MaskRcnnDescription,
    fit_size,
    pad,
    to_size,
)
from pipeline.parameters import Parameters
from pipeline.training import Loss, Mean, Places, Schedule, Visit, fit

LEAST_SIDE = 2


class MaskRcnnParameters(Parameters):
    """How the detector is built and trained."""

    architecture: Architecture
    weights: str = Field(description="of the backbone: package, hub, none, or a file")
    flip: float = Field(ge=0, le=1, description="share of the visits that see the mirror image")
    colour_jitter: float = Field(
        ge=0, lt=1, description="largest change of brightness, contrast and saturation, a share"
    )
    rounds: PositiveInt = Field(
        description="trainings, each after the first going on with what the one before finds"
    )
    least_find: float = Field(
        ge=0,
        le=1,
        description="least score of a find that counts, in parts of the best of its class there",
    )
    overlap: float = Field(
        ge=0, le=1, description="most that two finds of a class share, in parts of the smaller mask"
    )
    schedule: Schedule
    seed: NonNegativeInt = Field(description="of new layers, order, flips and jitter")


class Objects(Protocol):
    """The objects that training is told of, wherever their masks come from."""

    def __contains__(self, image_id: object, /) -> bool:
        """Whether there are any in an image: others are not trained on."""
        ...

    def instances(self, image_id: str, visit: int, /) -> Instances:
        """The instances that an image has at a visit."""
        ...


class PseudoMasks:
    """The proposals drawn for the peaks of a split's images, other ones at every visit.

    Raises
    ------
    InputError
        If there is no draw at all, or none for some of the visits.
    """

    def __init__(
        self, split: Split, draws: DrawStore, proposals: ProposalStore, visits: int
    ) -> None:
        self._proposals = proposals
        of_all = {photograph.id: draws.draws(photograph.id) for photograph in split.photographs}
        self._drawn = {image_id: drawn for image_id, drawn in of_all.items() if len(drawn.label)}
        if not self._drawn:
            raise InputError(f"{draws.path}: no image has a draw: there is nothing to learn")
        _check_visits(draws, next(iter(self._drawn.values())).draw.shape[1], visits)

    def __contains__(self, image_id: object, /) -> bool:
        return image_id in self._drawn

    def instances(self, image_id: str, visit: int, /) -> Instances:
        """The pseudo masks of an image at a visit."""
        return self._drawn[image_id].instances(self._proposals.proposals(image_id), visit)


class MaskedPhotographs:
    """Photographs at the detector's size, with the objects of the visit.

    `skipped` is the number of photographs without objects, which are not trained on.
    """

    def __init__(self, split: Split, objects: Objects, parameters: MaskRcnnParameters) -> None:
        self._split, self._objects, self._parameters = split, objects, parameters
        self._photographs = [shown for shown in split.photographs if shown.id in objects]
        self.skipped = len(split.photographs) - len(self._photographs)

    def __len__(self) -> int:
        return len(self._photographs)

    def __getitem__(self, visit: Visit) -> tuple[Tensor, dict[str, Tensor], int]:
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
        if rng.random() < self._parameters.flip:
            image, shapes = image.flip(2), shapes.flip(2)
        image = jitter_colours(image, rng, self._parameters.colour_jitter)
        return image, target(shapes, shown.label), int(rng.integers(2**63))

    def collate(self, samples: Sequence[tuple[Tensor, dict[str, Tensor], int]]) -> dict[str, Any]:
        """Pad the images to one size."""
        images, targets, seeds = zip(*samples, strict=True)
        padded, sizes = pad(images)
        return {"images": padded, "sizes": sizes, "targets": targets, "seeds": seeds}


def _check_visits(draws: DrawStore, visits: int, epochs: int) -> None:
    if visits < epochs:
        raise InputError(
            f"{draws.path}: draws for {visits} visits of an image, and schedule.epochs = {epochs}; "
            f"allowed are at most {visits} epochs, or more sampler.visits"
        )


def target(shapes: Tensor, label: NDArray[np.int16]) -> dict[str, Tensor]:
    """Make the target of masks, uint8 (n, h, w), of the classes `label`.

    A mask less than 2 pixels wide or high has no box to learn and is dropped.
    """
    x, y, width, height = masks.boxes(masks.encode(shapes.numpy().astype(bool))).T
    kept = np.flatnonzero((width >= LEAST_SIDE) & (height >= LEAST_SIDE))
    corners = np.stack([x, y, x + width, y + height], 1)[kept]
    return {
        "boxes": torch.from_numpy(corners.astype(np.float32)),
        "labels": torch.from_numpy(label[kept].astype(np.int64) + 1),
        "masks": shapes[kept],
    }


def train(
    split: Split,
    objects: Objects,
    parameters: MaskRcnnParameters,
    places: Places,
    what: str,
    start: Path | None = None,
) -> tuple[MaskRcnn, dict[str, float]]:
    """Train a detector on those of a split's photographs that have objects.

    Parameters
    ----------
    start : weights of an earlier training to go on from, in place of the trunk's alone.

    Returns
    -------
    The detector; the last epoch's losses, and how many images were trained on and skipped.
    """
    samples = MaskedPhotographs(split, objects, parameters)
    runtime.seed_everything(parameters.seed)
    description = MaskRcnnDescription(classes=split.classes, architecture=parameters.architecture)
    network = MaskRcnn(description, parameters.weights if start is None else "none")
    if start is not None:
        load_weights(start, network)
    network.to(runtime.device()).to(memory_format=torch.channels_last)
    means = fit(
        network,
        mask_rcnn_loss(network),
        samples,
        parameters.schedule,
        parameters.seed,
        places,
        what,
    )
    return network, {**means, "images": len(samples), "images_skipped": samples.skipped}


def mask_rcnn_loss(network: MaskRcnn) -> Loss:
    """Make the sum of Mask R-CNN's five losses, each a mean over regions (He et al., 3)."""

    def loss(batch: dict[str, Any]) -> dict[str, Mean]:
        terms = network.losses(
            batch["images"] / 255, batch["sizes"], batch["targets"], batch["seeds"]
        )
        return {name: Mean(mean * count, count) for name, (mean, count) in terms.items()}

    return loss
