"""The index of a split: which images, which bytes, which tags. All that training may know."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.common import files
from pipeline.common.images import read_image


class Photograph(BaseModel):
    """An image of a split.

    `file` is relative to the split's root; `height` and `width` are in pixels, upright;
    `sha256` is the digest of the file, by which a changed photograph is noticed; `tags` are
    names of classes, in the order of the split's classes.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    file: str
    height: int
    width: int
    sha256: str
    tags: tuple[str, ...]


class Split(BaseModel):
    """The photographs of one list, and the classes that their tags are from."""

    model_config = ConfigDict(frozen=True)

    root: str
    classes: tuple[str, ...]
    photographs: tuple[Photograph, ...]

    @classmethod
    def read(cls, path: Path) -> "Split":
        """Read `path`, or raise InputError."""
        return files.read_model(cls, path)

    def write(self, path: Path) -> None:
        """Write as indented JSON, which `git diff` and people can read."""
        files.write_json(path, self.model_dump(), indent=1)

    def image(self, photograph: Photograph) -> NDArray[np.uint8]:
        """The pixels of a photograph, RGB, shape (height, width, 3)."""
        return read_image(self.path(photograph))

    def path(self, photograph: Photograph) -> Path:
        """The file of a photograph."""
        return Path(self.root) / photograph.file

    def labels(self, photograph: Photograph) -> list[int]:
        """Indices of a photograph's tags among the classes, ascending."""
        return [self.classes.index(tag) for tag in photograph.tags]
