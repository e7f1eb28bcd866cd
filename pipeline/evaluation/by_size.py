"""Best overlap by the size and by the number of objects (WISE, figure 5).

The best overlap of a true instance is its highest IoU with a prediction of its class.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.common import files, masks
from pipeline.evaluation.measures import best_overlaps
from pipeline.evaluation.protocols import Pair

BINS = 10  # of an object's side
MOST = 5  # objects in an image; images with more are counted here


@dataclass(frozen=True)
class Overlaps:
    """Of n true instances.

    best : float (n,), the overlap, 0 to 1.
    side : float (n,), square root of the share of the image that the instance covers.
    neighbours : int (n,), objects in its image, itself among them.
    """

    best: NDArray[np.float64]
    side: NDArray[np.float64]
    neighbours: NDArray[np.int64]


def overlaps(pairs: Sequence[Pair]) -> Overlaps:
    """Compute the best overlap, size and number of neighbours of every true instance."""
    empty = np.zeros(0)
    sides = [np.sqrt(masks.area(pair.true.masks) / (pair.height * pair.width)) for pair in pairs]
    return Overlaps(
        best=np.concatenate([empty, *map(best_overlaps, pairs)]),
        side=np.concatenate([empty, *sides]),
        neighbours=np.repeat(*2 * [np.array([len(pair.true.masks) for pair in pairs], np.int64)]),
    )


def write_by_area(path: Path, methods: Mapping[str, Overlaps]) -> None:
    """Write mean best overlaps in percent, one row per interval of `side` (its middle, percent)."""
    middles = [100 * (number + 0.5) / BINS for number in range(BINS)]
    bins = {
        name: np.minimum((found.side * BINS).astype(np.int64), BINS - 1)
        for name, found in methods.items()
    }
    _write(path, "side", middles, range(BINS), methods, bins)


def write_by_count(path: Path, methods: Mapping[str, Overlaps]) -> None:
    """Write mean best overlaps in percent, one row per number of objects."""
    counts = range(1, MOST + 1)
    bins = {name: np.minimum(found.neighbours, MOST) for name, found in methods.items()}
    _write(path, "objects", counts, counts, methods, bins)


def _write(
    path: Path,
    key: str,
    names: Sequence[float],
    numbers: Sequence[int],
    methods: Mapping[str, Overlaps],
    bins: Mapping[str, NDArray[np.int64]],
) -> None:
    """One column per method; nan without instances, since DVC draws an empty cell as 0."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([key, *methods])
    for name, number in zip(names, numbers, strict=True):
        best = [found.best[bins[method] == number] for method, found in methods.items()]
        table.writerow([name, *(f"{100 * b.mean():.2f}" if len(b) else "nan" for b in best)])
    files.write_bytes(path, text.getvalue().encode())
