"""Features of photographs that show none of the classes, for a classifier that sees no others.

Not in the papers. If every photograph shows the class, as where all are taken of potholes, tags do
not say what is no pothole. The heads on a frozen backbone can learn it from features of other
photographs. A few cells of each are enough, and small enough to come with this software. What
these photographs show is known, so that those with a category that a class names are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from pipeline.artifacts.split import Split
from pipeline.artifacts.weights import read_description
from pipeline.classifier.features import Features
from pipeline.classifier.network import PrmDescription
from pipeline.common import files
from pipeline.common.errors import InputError, first_line

CELLS = 2  # that are kept of a photograph, per row and per column
SHORTEST = 3  # letters of a class that may be a part of a category's name
LEVELS = 255  # largest 8-bit integer


class OthersDescription(BaseModel):
    """Description of a file of features.

    backbone, weights : the timm model, and where its weights are from, see `PrmParameters`.
    image_size : height and width in pixels to which the photographs were warped.
    categories : names of what is known to be in a photograph, or not.
    """

    backbone: str
    weights: str
    image_size: int
    categories: tuple[str, ...] = Field(min_length=1)

    def made_with(self) -> dict[str, str | int]:
        """Return the parameters of `prm` that the features depend on."""
        return self.model_dump(include={"backbone", "weights", "image_size"})


@dataclass(frozen=True)
class Others:
    """Features of photographs that show none of the classes.

    features : float16 (n, channels, cells, cells), of cells spread evenly over the photographs.
    """

    features: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.features)

    def spread(self, number: int, height: int, width: int) -> NDArray[np.float16]:
        """Return the features of a photograph on a grid: float16 (channels, height, width).

        Each cell of the grid has the features of the nearest cell that was kept. A mean of cells
        would not do: the heads could tell it from the features of a single one.
        """
        kept = self.features[number]
        row, column = (
            np.arange(size) * cells // size
            for size, cells in zip((height, width), kept.shape[1:], strict=True)
        )
        on_grid: NDArray[np.float16] = kept[:, row[:, None], column]
        return on_grid


def read_others(path: Path, classes: Sequence[str]) -> Others:
    """Read the features of the photographs of a file that show none of the classes.

    Raises
    ------
    InputError
        If the file is missing or broken, or there is no such photograph.
    """
    description = read_description(path, OthersDescription)
    try:
        content = safetensors.numpy.load_file(path)
        levels, scale, shown = content["features"], content["scale"], content["shown"]
    except (KeyError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: broken ({first_line(error)})") from None
    named = [is_named(category, classes) for category in description.categories]
    left = levels[~shown.astype(bool)[:, named].any(1)]
    if not len(left):
        raise InputError(f"{path}: all photographs show {', '.join(classes)}")
    return Others((left * scale).astype(np.float16))


def write_others(
    path: Path, description: PrmDescription, weights: str, split: Split, features: Features
) -> None:
    """Write features of the photographs of a split, whose classes are the categories.

    Parameters
    ----------
    description : of the classifier whose backbone gave the features.
    weights : see `OthersDescription`.
    """
    numbers = range(len(split.photographs))
    kept = np.stack([_kept(features(number, False)) for number in numbers])
    scale = kept.max() / np.float32(LEVELS)
    shown = [[c in photograph.tags for c in split.classes] for photograph in split.photographs]
    content = {
        "features": np.round(kept / scale).astype(np.uint8, order="C"),
        "scale": np.array(scale, np.float32),
        "shown": np.array(shown, np.uint8),
    }
    described = OthersDescription(
        backbone=description.backbone,
        weights=weights,
        image_size=description.image_size,
        categories=split.classes,
    )
    metadata = {"description": described.model_dump_json()}
    files.write_bytes(path, safetensors.numpy.save(content, metadata))


def is_named(category: str, classes: Sequence[str]) -> bool:
    """Whether a class may mean a category: one name is a part of the other, as in `cats`.

    Case, spaces and marks do not count. Too many photographs are left out rather than too few:
    `hot dog` names `dog`.
    """
    name = _letters(category)
    return any(
        name in of_class or (len(of_class) >= SHORTEST and of_class in name)
        for of_class in map(_letters, classes)
    )


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _kept(features: NDArray[np.float16]) -> NDArray[np.float32]:
    """Take the middle cells of a grid of `CELLS` squared parts: float32 (channels, *CELLS)."""
    row, column = ((2 * np.arange(CELLS) + 1) * size // (2 * CELLS) for size in features.shape[1:])
    return features[:, row[:, None], column].astype(np.float32)
