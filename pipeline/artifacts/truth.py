"""Ground-truth instance masks, which are held out for evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.artifacts.instances import Instances
from pipeline.common import files
from pipeline.common.masks import Rle


class TrueInstance(BaseModel):
    """One object.

    label : index of the class.
    counts : COCO's compressed run-length encoding of the mask, as ASCII text.
    """

    model_config = ConfigDict(frozen=True)

    label: int
    counts: str


class TrueImage(BaseModel):
    """The n objects of an image.

    id : name of the photograph in the dataset.
    height, width : of the image, in pixels.
    instances : the objects of the split's classes.
    other_objects : number of objects of other classes.
    void : run-length encoding of the pixels that evaluation ignores.
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
        """Whether the image shows an object of any class."""
        return bool(self.instances) or self.other_objects > 0

    def masks(self) -> list[Rle]:
        """Return the masks of the n instances."""
        return [self._rle(instance.counts) for instance in self.instances]

    def labels(self) -> NDArray[np.int16]:
        """Return the class indices of the instances, int16 (n,)."""
        return np.array([instance.label for instance in self.instances], np.int16)

    def as_instances(self) -> Instances:
        """Return the objects as instances, each with score 1."""
        ones = np.ones(len(self.instances), np.float32)
        return Instances(self.masks(), self.labels(), ones)

    def void_mask(self) -> Rle:
        """Return the mask of the void pixels."""
        return self._rle(self.void)

    def _rle(self, counts: str) -> Rle:
        return {"size": [self.height, self.width], "counts": counts.encode()}


class Truth(BaseModel):
    """The ground truth of a split.

    classes : names of all classes.
    images : those images of the split that have true masks, possibly none.
    """

    model_config = ConfigDict(frozen=True)

    classes: tuple[str, ...]
    images: tuple[TrueImage, ...]

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Read ground truth from JSON. Raises InputError if the file is missing or invalid."""
        return files.read_model(cls, path)

    def write(self, path: Path) -> None:
        """Write the ground truth as JSON."""
        content: dict[str, Any] = self.model_dump()
        files.write_json(path, content)
