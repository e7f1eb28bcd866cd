"""Best overlap by size and by number of objects (WISE, figure 5).

The best overlap of a true instance is its highest IoU with a prediction of its class.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.common import files, masks
from pipeline.evaluation.measures import best_overlaps
from pipeline.evaluation.protocols import Pair

BINS = 10  # intervals of an object's side
MAX_OBJECTS = 5  # images with more objects are counted as having this many


@dataclass(frozen=True)
class Overlaps:
    """Best overlap, size and number of objects of n true instances.

    best : float64 (n,), best overlap, 0 to 1.
    side : float64 (n,), square root of the fraction of the image that the instance covers.
    objects : int64 (n,), number of objects in its image.
    """

    best: NDArray[np.float64]
    side: NDArray[np.float64]
    objects: NDArray[np.int64]

    @classmethod
    def of_lists(cls, best: list[float], side: list[float], objects: list[int]) -> Self:
        """Make them from lists, as they are in JSON."""
        return cls(
            np.array(best, np.float64), np.array(side, np.float64), np.array(objects, np.int64)
        )


def overlaps(pairs: Sequence[Pair]) -> Overlaps:
    """Compute the best overlap, size and number of objects of each true instance."""
    empty = np.zeros(0)
    sides = [np.sqrt(masks.area(pair.true.masks) / (pair.height * pair.width)) for pair in pairs]
    return Overlaps(
        best=np.concatenate([empty, *map(best_overlaps, pairs)]),
        side=np.concatenate([empty, *sides]),
        objects=np.repeat(*2 * [np.array([len(pair.true.masks) for pair in pairs], np.int64)]),
    )


def write_by_area(path: Path, methods: Mapping[str, Overlaps]) -> None:
    """Write mean best overlaps in percent, one row per middle of an interval of `side`."""
    middles = [100 * (number + 0.5) / BINS for number in range(BINS)]
    bins = {
        name: np.minimum((found.side * BINS).astype(np.int64), BINS - 1)
        for name, found in methods.items()
    }
    _write(path, "side", middles, range(BINS), methods, bins)


def write_by_count(path: Path, methods: Mapping[str, Overlaps]) -> None:
    """Write mean best overlaps in percent, one row per number of objects."""
    counts = range(1, MAX_OBJECTS + 1)
    bins = {name: np.minimum(found.objects, MAX_OBJECTS) for name, found in methods.items()}
    _write(path, "objects", counts, counts, methods, bins)


def _write(
    path: Path,
    key: str,
    names: Sequence[float],
    numbers: Sequence[int],
    methods: Mapping[str, Overlaps],
    bins: Mapping[str, NDArray[np.int64]],
) -> None:
    """Write one column per method; nan without instances, because DVC plots an empty cell as 0."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([key, *methods])
    for name, number in zip(names, numbers, strict=True):
        best = [found.best[bins[method] == number] for method, found in methods.items()]
        table.writerow([name, *(f"{100 * b.mean():.2f}" if len(b) else "nan" for b in best)])
    files.write_bytes(path, text.getvalue().encode())
