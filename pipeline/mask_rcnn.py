"""Training the detector on pseudo masks drawn anew at every visit (WISE 3.2, Algorithm 1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from torch import Tensor

from pipeline import masks
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.augmentation import jitter_colours
from pipeline.errors import InputError
from pipeline.networks.mask_rcnn import Architecture, MaskRcnn, fit_size, pad, to_size
from pipeline.parameters import Parameters
from pipeline.training import Loss, Mean, Schedule, Visit

LEAST_SIDE = 2


class MaskRcnnParameters(Parameters):
    """How the detector is built and trained."""

    architecture: Architecture
    weights: str = Field(description="of the backbone: package, hub, none, or a file")
    flip: float = Field(ge=0, le=1, description="share of the visits that see the mirror image")
    colour_jitter: float = Field(
        ge=0, lt=1, description="largest change of brightness, contrast and saturation, a share"
    )
    schedule: Schedule
    seed: NonNegativeInt


class PseudoMasks:
    """Photographs at the detector's size, with the proposals drawn for the visit.

    `skipped` is the number of photographs without a draw, which are not trained on.

    Raises
    ------
    InputError
        If there is no draw at all, or none for some epoch of the schedule.
    """

    def __init__(
        self,
        split: Split,
        draws: DrawStore,
        proposals: ProposalStore,
        parameters: MaskRcnnParameters,
    ) -> None:
        self._split, self._proposals, self._parameters = split, proposals, parameters
        of_all = [(photograph, draws.draws(photograph.id)) for photograph in split.photographs]
        self._drawn = [(photograph, drawn) for photograph, drawn in of_all if len(drawn.label)]
        self.skipped = len(of_all) - len(self._drawn)
        if not self._drawn:
            raise InputError(f"{draws.path}: no image has a draw: there is nothing to learn")
        _check_visits(draws, self._drawn[0][1].draw.shape[1], parameters.schedule.epochs)

    def __len__(self) -> int:
        return len(self._drawn)

    def __getitem__(self, visit: Visit) -> tuple[Tensor, dict[str, Tensor]]:
        """Give the image, uint8 (3, h, w), and its target: see `MaskRcnn.losses`."""
        photograph, draws = self._drawn[visit.item]
        drawn = draws.instances(self._proposals.proposals(photograph.id), visit.epoch)
        decoded = masks.decode(drawn.masks, photograph.height, photograph.width)
        size = fit_size(photograph.height, photograph.width, self._parameters.architecture)
        image = to_size(self._split.image(photograph), size)
        shapes = F.interpolate(
            torch.from_numpy(decoded.view(np.uint8))[None], size, mode="nearest-exact"
        )[0]
        rng = visit.generator(self._parameters.seed)
        if rng.random() < self._parameters.flip:
            image, shapes = image.flip(2), shapes.flip(2)
        image = jitter_colours(image, rng, self._parameters.colour_jitter)
        return image, target(shapes, drawn.label)

    def collate(self, samples: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Any]:
        """Pad the images to one size."""
        images, targets = zip(*samples, strict=True)
        padded, sizes = pad(images)
        return {"images": padded, "sizes": sizes, "targets": targets}


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


def mask_rcnn_loss(network: MaskRcnn) -> Loss:
    """Make the sum of Mask R-CNN's five losses (He et al., 3).

    Each is a mean over regions, which is counted here as one over images: several processes
    weigh the regions of an image by their share's number of them (objects, in the mask loss).
    """

    def loss(batch: dict[str, Any]) -> dict[str, Mean]:
        terms = network.losses(batch["images"] / 255, batch["sizes"], batch["targets"])
        count = len(batch["targets"])
        return {name: Mean(term * count, count) for name, term in terms.items()}

    return loss
