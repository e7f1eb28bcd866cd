"""Rows of pictures: a photograph and the results of each stage (WISE, figures 1 and 4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.peaks import Peaks
from pipeline.artifacts.split import Photograph
from pipeline.drawing import canvas as drawing
from pipeline.drawing.canvas import Pixels
from pipeline.drawing.sheets import mark_instances, mark_peaks, with_scores

SIDE = 240  # longer side of a picture, pixels
HEIGHT = 12  # of text, pixels
HEADINGS = (
    *("photograph", "peaks, their response", "pseudo masks"),
    *("prediction", "refined prediction", "truth"),
)


@dataclass(frozen=True)
class Row:
    """A photograph (h, w, 3) and its results. `true` is None if it has no true masks."""

    image_id: str
    pixels: Pixels
    peaks: Peaks
    pseudo_masks: Instances
    predicted: Instances
    refined: Instances
    true: Instances | None


def choose(photographs: Sequence[Photograph], classes: Sequence[str], count: int) -> list[str]:
    """Choose images by their tags: the first of each class, then the second of each, and so on.

    Images without tags come last.

    Returns
    -------
    Ids of `count` images, or of all if there are fewer.
    """
    of_classes = [[p.id for p in photographs if name in p.tags] for name in classes]
    turns = [image for turn in zip_longest(*of_classes) for image in turn if image is not None]
    return list(dict.fromkeys([*turns, *(p.id for p in photographs)]))[:count]


def figure(rows: Sequence[Row], classes: Sequence[str]) -> Pixels:
    """Draw rows of pictures under headings."""
    above = [drawing.caption(np.zeros((0, SIDE, 3), np.uint8), text) for text in HEADINGS]
    pictures = [picture for row in rows for picture in _pictures(row, classes)]
    return drawing.grid([*above, *pictures], len(HEADINGS))


def _pictures(row: Row, classes: Sequence[str]) -> Iterator[Pixels]:
    photograph = drawing.fit(row.pixels, SIDE)
    yield drawing.caption(photograph, row.image_id, HEIGHT)
    glowing = drawing.heat(photograph, _response(row.peaks))
    yield mark_peaks(glowing, row.pixels, row.peaks, classes, HEIGHT)
    for found, names in (
        (row.pseudo_masks, _names(row.pseudo_masks, classes)),
        (row.predicted, with_scores(row.predicted, classes)),
        (row.refined, with_scores(row.refined, classes)),
    ):
        yield mark_instances(photograph, found.masks, names, HEIGHT)
    if row.true is None:
        yield drawing.caption(photograph, "no true masks", HEIGHT)
    else:
        yield mark_instances(photograph, row.true.masks, _names(row.true, classes), HEIGHT)


def _response(peaks: Peaks) -> NDArray[np.float32]:
    """Compute the maximum over all response maps, (h, w), each divided by its own maximum."""
    highest = peaks.response.max(axis=(1, 2), keepdims=True)
    relative = peaks.response / np.maximum(highest, np.finfo(np.float32).tiny)
    return np.asarray(relative.max(axis=0, initial=0.0))


def _names(instances: Instances, classes: Sequence[str]) -> list[str]:
    return [classes[label] for label in instances.label]
