"""Peaks of class response maps, and their peak response maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.ragged import Column, RaggedStore, RaggedWriter, Schema


@dataclass(frozen=True)
class Points:
    """The positions of the n peaks of an image.

    label : int16 (n,), index of the class.
    y, x : int32 (n,), row and column in the photograph, in pixels.
    """

    label: NDArray[np.int16]
    y: NDArray[np.int32]
    x: NDArray[np.int32]


@dataclass(frozen=True)
class Peaks(Points):
    """The n peaks of an image with their heights and peak response maps.

    value : float32 (n,), value of the class response map at the peak, a logit.
    response : float32 (n, h, w), peak response maps over the whole image; each sums to 1.
    """

    value: NDArray[np.float32]
    response: NDArray[np.float32]


SCHEMA = Schema(
    row="peak",
    columns={
        "label": Column("i2", "index of the class"),
        "y": Column("i4", "row of the photograph, pixels"),
        "x": Column("i4", "column of the photograph, pixels"),
        "value": Column("f4", "height of the class response map, a logit"),
        "response": Column(
            "f4", "peak response map over the image, of sum 1", dims=("response_y", "response_x")
        ),
    },
)


class PeakWriter(RaggedWriter):
    """Writes a peak store."""

    def __init__(self, path: Path, classes: tuple[str, ...], parameters: Mapping[str, Any]) -> None:
        attributes = {"stage": "peaks", "classes": classes, "parameters": parameters}
        super().__init__(path, SCHEMA, attributes)

    def add(self, image_id: str, height: int, width: int, peaks: Peaks) -> None:
        """Add an image and its peaks."""
        self.append(image_id, height, width, vars(peaks))


class PeakStore(RaggedStore):
    """A peak store, opened for reading."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)

    def points(self, image_id: str) -> Points:
        """Read only the positions of an image's peaks, which is faster than `peaks`."""
        return Points(**self.read(image_id, ["label", "y", "x"]))

    def peaks(self, image_id: str) -> Peaks:
        """Read the peaks of an image."""
        return Peaks(**self.read(image_id))
