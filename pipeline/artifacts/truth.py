"""True instance masks, behind the door that only evaluation opens."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.artifacts.instances import Instances
from pipeline.common import files
from pipeline.common.masks import Rle


class TrueInstance(BaseModel):
    """One object: its class (index) and its mask (COCO run-length code, ascii counts)."""

    model_config = ConfigDict(frozen=True)

    label: int
    counts: str


class TrueImage(BaseModel):
    """The objects of an image, and the pixels that belong to none for certain (void).

    `other_objects` is the number of objects of classes that were not asked for.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    height: int
    width: int
    instances: tuple[TrueInstance, ...]
    other_objects: int
    void: str

    @property
    def has_objects(self) -> bool:
        """Whether the image shows any object, of whatever class."""
        return bool(self.instances) or self.other_objects > 0

    def masks(self) -> list[Rle]:
        """The instances' masks."""
        return [self._rle(instance.counts) for instance in self.instances]

    def labels(self) -> NDArray[np.int16]:
        """The instances' classes, int16 (n,)."""
        return np.array([instance.label for instance in self.instances], np.int16)

    def as_instances(self) -> Instances:
        """The objects as instances, each with score 1."""
        ones = np.ones(len(self.instances), np.float32)
        return Instances(self.masks(), self.labels(), ones)

    def void_mask(self) -> Rle:
        """The mask of the void pixels."""
        return self._rle(self.void)

    def _rle(self, counts: str) -> Rle:
        return {"size": [self.height, self.width], "counts": counts.encode()}


class Truth(BaseModel):
    """The images of a split that have true masks, which may be none."""

    model_config = ConfigDict(frozen=True)

    classes: tuple[str, ...]
    images: tuple[TrueImage, ...]

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Read `path`, or raise InputError."""
        return files.read_model(cls, path)

    def write(self, path: Path) -> None:
        """Write as JSON."""
        content: dict[str, Any] = self.model_dump()
        files.write_json(path, content)
