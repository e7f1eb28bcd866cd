"""The index of a split: its photographs with their tags, the only input of training."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.common import files
from pipeline.common.images import read_image


class Photograph(BaseModel):
    """A photograph of a split.

    id : name of the photograph in the dataset.
    file : path relative to the root of the split.
    height, width : of the upright photograph, in pixels.
    sha256 : digest of the file, from which changes are detected.
    tags : names of the classes in the photograph, in the order of the split's classes.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    file: str
    height: int
    width: int
    sha256: str
    tags: tuple[str, ...]


class Split(BaseModel):
    """The photographs of one list.

    root : folder of the photographs.
    classes : names of all classes.
    photographs : in the order of the list.
    """

    model_config = ConfigDict(frozen=True)

    root: str
    classes: tuple[str, ...]
    photographs: tuple[Photograph, ...]

    @classmethod
    def read(cls, path: Path) -> "Split":
        """Read a split from JSON. Raises InputError if the file is missing or invalid."""
        return files.read_model(cls, path)

    def write(self, path: Path) -> None:
        """Write the split as indented JSON, which is readable in `git diff`."""
        files.write_json(path, self.model_dump(), indent=1)

    def image(self, photograph: Photograph) -> NDArray[np.uint8]:
        """Read the pixels of a photograph: RGB, uint8 (height, width, 3)."""
        return read_image(self.path(photograph))

    def path(self, photograph: Photograph) -> Path:
        """Return the path of a photograph."""
        return Path(self.root) / photograph.file

    def labels(self, photograph: Photograph) -> list[int]:
        """Return the class indices of a photograph's tags, ascending."""
        return [self.classes.index(tag) for tag in photograph.tags]


class PhotographFile(NamedTuple):
    """A photograph on disk.

    id : name of the photograph in the dataset.
    path : of its file.
    """

    id: str
    path: Path

    @classmethod
    def of(cls, split: Split, photograph: Photograph) -> "PhotographFile":
        """Return the id and path of a photograph of a split."""
        return cls(photograph.id, split.path(photograph))
