"""The candidate proposals of every peak, their probabilities, and the proposals drawn."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.proposals import Proposals, ProposalStore
from pipeline.artifacts.ragged import Column, RaggedStore, RaggedWriter, Schema
from pipeline.common import masks

SCHEMA = Schema(
    row="peak",
    columns={
        "label": Column("i2", "index of the class"),
        "candidate": Column("i4", "number of a proposal of the image", nested="candidate"),
        "probability": Column("f4", "of drawing that candidate (Eq. 1)", nested="candidate"),
        "draw": Column("i4", "number of the proposal drawn for an epoch", dims=("epoch",)),
        "kept": Column("b1", "false: on the object of a better peak of the class, not used"),
    },
)


@dataclass(frozen=True)
class Draws:
    """The n peaks of an image that have candidates.

    label : int16 (n,), index of the class.
    candidate : n arrays, int32, indices of the image's proposals that contain the peak.
    probability : n arrays, float32, probability of each candidate; they sum to 1.
    draw : int32 (n, epochs), index of the proposal drawn for each training epoch.
    kept : bool (n,), false for a peak on the object of a better peak of its class; its draws are
        not used.
    """

    label: NDArray[np.int16]
    candidate: list[NDArray[np.int32]]
    probability: list[NDArray[np.float32]]
    draw: NDArray[np.int32]
    kept: NDArray[np.bool_]

    def instances(self, proposals: Proposals, epoch: int) -> Instances:
        """Return the pseudo masks of an epoch, with their objectness as scores.

        Only kept peaks count; those of the same class for which the same proposal was drawn give
        one instance.
        """
        label, number = self._drawn(proposals, epoch)
        return Instances(
            masks=[proposals.masks[k] for k in number],
            label=label.astype(np.int16),
            score=proposals.score[number],
        )

    def agreement(self, proposals: Proposals, epoch: int) -> NDArray[np.float32]:
        """Return how much the draws of all epochs agree with each instance of an epoch.

        Returns
        -------
        float32 (k,), 0 to 1, in the order of `instances`: mean IoU of the instance with what was
        drawn in all epochs for its peak. Of several peaks the one that agrees most counts.
        """
        label, number = self._drawn(proposals, epoch)
        agreed = np.zeros(len(label), np.float32)
        for peak in np.flatnonzero(self.kept):
            here = (label == self.label[peak]) & (number == self.draw[peak, epoch])
            drawn, counts = np.unique(self.draw[peak], return_counts=True)
            others = [proposals.masks[k] for k in drawn]
            iou = masks.iou([proposals.masks[self.draw[peak, epoch]]], others)[0]
            agreed[here] = np.maximum(agreed[here], iou @ counts / counts.sum())
        return agreed

    def _drawn(
        self, proposals: Proposals, epoch: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return class and proposal of each instance of an epoch, by descending objectness."""
        pairs = np.stack([self.label, self.draw[:, epoch]], 1)[self.kept]
        label, number = np.unique(pairs, axis=0).reshape(-1, 2).T
        best_first = np.argsort(-proposals.score[number], kind="stable")
        return label[best_first], number[best_first]

    def likely(self, proposals: Proposals) -> Instances:
        """Return every candidate that is more likely than the mean candidate of its peak.

        Each has the class of its peak, those of peaks that are not kept too, and its objectness as
        score.
        """
        pairs = {
            (int(label), int(number))
            for label, numbers, chances in zip(
                self.label, self.candidate, self.probability, strict=True
            )
            for number in numbers[chances > chances.mean()]
        }
        label, number = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
        shapes = [proposals.masks[k] for k in number]
        return Instances(shapes, label.astype(np.int16), proposals.score[number])


class DrawWriter(RaggedWriter):
    """Writes a store of draws."""

    def __init__(self, path: Path, classes: tuple[str, ...], parameters: Mapping[str, Any]) -> None:
        attributes = {"stage": "sampler", "classes": classes, "parameters": parameters}
        super().__init__(path, SCHEMA, attributes)

    def add(self, image_id: str, height: int, width: int, draws: Draws) -> None:
        """Add an image and its draws."""
        self.append(image_id, height, width, vars(draws))


class DrawStore(RaggedStore):
    """A store of draws, opened for reading."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)

    def draws(self, image_id: str) -> Draws:
        """Read the draws of an image."""
        return Draws(**self.read(image_id))


class FirstDraws:
    """The pseudo masks that were drawn for the first epoch.

    Their scores are the objectness of the proposals, not the confidence in a class.
    """

    def __init__(self, draws: DrawStore, proposals: ProposalStore) -> None:
        self._draws, self._proposals = draws, proposals

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the store of draws."""
        return self._draws.attributes

    def __iter__(self) -> Iterator[str]:
        return iter(self._draws)

    def instances(self, image_id: str) -> Instances:
        """Read the pseudo masks of an image."""
        drawn = self._draws.draws(image_id)
        return drawn.instances(self._proposals.proposals(image_id), epoch=0)
