"""Binary masks as COCO run-length codes, by pycocotools.

Run-length codes are the smallest exact form on real masks, answer 'is this pixel inside' and
'what is the Jaccard similarity' without being decoded, and are what COCO's tools read.
"""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask


class Rle(TypedDict):
    """COCO's compressed run-length code of one mask: size (height, width) and the bytes."""

    size: list[int]
    counts: bytes


def encode(masks: NDArray[np.bool_]) -> list[Rle]:
    """Encode masks of shape (n, height, width)."""
    columns_first = np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)
    return list(coco_mask.encode(columns_first))


def decode(rles: Sequence[Rle], height: int, width: int) -> NDArray[np.bool_]:
    """Decode to masks of shape (n, height, width)."""
    if not rles:
        return np.zeros((0, height, width), bool)
    decoded: NDArray[np.uint8] = coco_mask.decode(list(rles))
    return decoded.transpose(2, 0, 1).view(bool)


def from_counts(counts: Sequence[NDArray[np.uint8]], height: int, width: int) -> list[Rle]:
    """Run-length codes from their stored bytes."""
    return [{"size": [height, width], "counts": code.tobytes()} for code in counts]


def to_counts(rles: Sequence[Rle]) -> list[NDArray[np.uint8]]:
    """The bytes of run-length codes, as arrays that a store takes."""
    return [np.frombuffer(rle["counts"], np.uint8) for rle in rles]


def area(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """Pixels of every mask, shape (n,)."""
    # One by one: with NumPy 2, pycocotools 2.0.11 fails on a list of more than 255.
    return np.array([coco_mask.area(rle) for rle in rles], np.int64)


def boxes(rles: Sequence[Rle]) -> NDArray[np.float64]:
    """Tight boxes (x, y, width, height) in pixels, shape (n, 4)."""
    return np.asarray(coco_mask.toBbox(list(rles)), np.float64).reshape(-1, 4)


def jaccard(first: Sequence[Rle], second: Sequence[Rle]) -> NDArray[np.float64]:
    """Intersection over union of every pair, shape (len(first), len(second)).

    Two empty masks have nothing in common: 0.
    """
    if not first or not second:
        return np.zeros((len(first), len(second)))
    ious = coco_mask.iou(list(first), list(second), [False] * len(second))
    return np.nan_to_num(np.asarray(ious, np.float64))


def unsuppressed(
    rles: Sequence[Rle], threshold: float, before: Sequence[Rle] = ()
) -> NDArray[np.int64]:
    """Indices of the masks, best first, that no kept one before them overlaps by more.

    Parameters
    ----------
    before : masks that are kept already, and come before all others.
    """
    free = (jaccard(rles, before) <= threshold).all(axis=1)
    similarity = jaccard(rles, rles)
    kept: list[int] = []
    for number in np.flatnonzero(free):
        if not kept or similarity[number, kept].max() <= threshold:
            kept.append(int(number))
    return np.array(kept, np.int64)


def contains(rles: Sequence[Rle], points: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Which mask contains which pixel.

    Parameters
    ----------
    points : (y, x) in pixels, shape (p, 2).

    Returns
    -------
    bool array of shape (n, p).
    """
    if not rles:
        return np.zeros((0, len(points)), bool)
    height, width = rles[0]["size"]
    return jaccard(rles, [_pixel(int(y), int(x), height, width) for y, x in points]) > 0


def _pixel(y: int, x: int, height: int, width: int) -> Rle:
    """The mask of a single pixel: runs go down the columns, background first."""
    before = x * height + y
    runs = [before, 1, height * width - before - 1]
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return rle
