"""Instances with scores, from any method: the input of evaluation and of refinement."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.artifacts.ragged import Column, RaggedStore, RaggedWriter, Schema
from pipeline.common import masks
from pipeline.common.masks import Rle

SCHEMA = Schema(
    row="instance",
    columns={
        "mask": Column("u1", "COCO run-length code, compressed", nested="mask_byte"),
        "label": Column("i2", "index of the class"),
        "score": Column("f4", "confidence, 0 to 1, descending within an image"),
    },
)


@dataclass(frozen=True)
class Instances:
    """The n instances of an image.

    masks : n masks of the size of the image.
    label : int16 (n,), index of the class.
    score : float32 (n,), confidence from 0 to 1.
    """

    masks: list[Rle]
    label: NDArray[np.int16]
    score: NDArray[np.float32]

    @classmethod
    def none(cls) -> "Instances":
        """Return no instances."""
        return cls([], np.zeros(0, np.int16), np.zeros(0, np.float32))

    def __add__(self, others: "Instances") -> "Instances":
        """Append other instances of the same image."""
        return Instances(
            self.masks + others.masks,
            np.concatenate([self.label, others.label]),
            np.concatenate([self.score, others.score]),
        )

    def take(self, rows: NDArray[np.integer[Any]]) -> "Instances":
        """Select instances by index, int (k,)."""
        return Instances([self.masks[row] for row in rows], self.label[rows], self.score[rows])

    def of_classes(self, labels: ArrayLike, *, others: bool = False) -> "Instances":
        """Select the instances of some classes, or those of all others."""
        return self.take(np.flatnonzero(np.isin(self.label, labels, invert=others)))

    def best_of_class(self) -> NDArray[np.float32]:
        """Return, for each instance, the highest score in its class: float32 (n,)."""
        best = np.zeros(self.label.max(initial=-1) + 1, np.float32)
        np.maximum.at(best, self.label, self.score)
        return best[self.label]

    def with_scores(self, score: NDArray[np.floating[Any]]) -> "Instances":
        """Replace the scores by others (n,), and sort by descending new score."""
        score = score.astype(np.float32)
        return replace(self, score=score).take(np.argsort(-score, kind="stable"))

    def without_parts(self, max_overlap: float) -> "Instances":
        """Drop instances that overlap a better one of their class by more than `max_overlap`.

        The instances are sorted by descending score. The overlap is the intersection as a fraction
        of the smaller mask; 1 drops none. Not published: non-maximum suppression of boxes keeps
        the head of an animal besides the animal, while the masks of true objects of a class share
        few pixels.
        """
        return self.take(masks.suppress_within_classes(self.masks, self.label, max_overlap))


class InstanceSource(Protocol):
    """Instances by image, of any method; for example an `InstanceStore`."""

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the store; `classes` are the class names, in the order of the labels."""
        ...

    def __iter__(self) -> Iterator[str]: ...

    def instances(self, image_id: str, /) -> Instances:
        """The instances of an image."""
        ...


class InstanceWriter(RaggedWriter):
    """Writes a store of instances; `stage` is the stage that computes them."""

    def __init__(
        self, path: Path, stage: str, classes: tuple[str, ...], parameters: Mapping[str, Any]
    ) -> None:
        attributes = {"stage": stage, "classes": classes, "parameters": parameters}
        super().__init__(path, SCHEMA, attributes)

    def add(self, image_id: str, height: int, width: int, instances: Instances) -> None:
        """Add an image and its instances."""
        values = {
            "mask": masks.to_counts(instances.masks),
            "label": instances.label,
            "score": instances.score,
        }
        self.append(image_id, height, width, values)


class InstanceStore(RaggedStore):
    """A store of instances, opened for reading."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)

    def instances(self, image_id: str) -> Instances:
        """Read the instances of an image."""
        values = self.read(image_id)
        rles = masks.from_counts(values["mask"], *self.size(image_id))
        return Instances(rles, values["label"], values["score"])


@dataclass(frozen=True)
class InstanceView:
    """The instances of a source, changed when they are read.

    change : gives the changed instances for the id of an image and its instances.
    """

    source: InstanceSource
    change: Callable[[str, Instances], Instances]

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the source."""
        return self.source.attributes

    def __iter__(self) -> Iterator[str]:
        return iter(self.source)

    def instances(self, image_id: str, /) -> Instances:
        """Read the instances of an image, and change them."""
        return self.change(image_id, self.source.instances(image_id))
