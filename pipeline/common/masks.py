"""Binary masks as COCO run-length codes, by pycocotools.

Run-length codes are the smallest exact form on real masks, answer 'is this pixel inside' and
'what is the Jaccard similarity' without being decoded, and are what COCO's tools read.
"""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

_DECODED_AT_A_TIME = 64


class Rle(TypedDict):
    """COCO's compressed run-length code of one mask: size (height, width) and the bytes."""

    size: list[int]
    counts: bytes


def encode(masks: NDArray[np.bool_]) -> list[Rle]:
    """Encode masks of shape (n, height, width)."""
    columns_first = np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)
    return list(coco_mask.encode(columns_first))


def decode(rles: Sequence[Rle], height: int, width: int) -> NDArray[np.bool_]:
    """Decode to masks of shape (n, height, width).

    Many masks at once, which takes a fraction of pycocotools' run after run.

    Raises
    ------
    ValueError
        If a code is not of so many pixels.
    """
    # Columns first, as the codes go.
    decoded = np.zeros((len(rles), width * height), bool)
    for start in range(0, len(rles), _DECODED_AT_A_TIME):
        some = slice(start, start + _DECODED_AT_A_TIME)
        _paint(decoded[some].reshape(-1), [rle["counts"] for rle in rles[some]], height * width)
    return decoded.reshape(len(rles), width, height).transpose(0, 2, 1)


def _paint(pixels: NDArray[np.bool_], codes: Sequence[bytes], size: int) -> None:
    """Set those pixels, of masks of `size` end to end, that are in their masks."""
    lengths, mask, place = runs(codes)
    ends = np.cumsum(lengths)
    if not np.array_equal(ends[np.diff(mask, append=-1) != 0], size * np.arange(1, len(codes) + 1)):
        raise ValueError(f"a run-length code is not of {size} pixels")
    inside = place % 2 == 1
    run, start = lengths[inside], (ends - lengths)[inside]
    # The runs one behind the other, each moved to where it starts.
    index = np.repeat(start - (np.cumsum(run) - run), run)
    index += np.arange(len(index))
    pixels[index] = True


def runs(
    codes: Sequence[bytes],
) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]:
    """Read compressed run-length codes: of every run its length, its mask, its place in the mask.

    Runs are outside and inside of the mask in turns. A number is base 32, lowest digit first, in
    characters from '0' on, bit 5 set on all digits but its last; bit 4 of that is the sign. From
    the fourth number on it is the difference to the run before the last (COCO, maskApi.c).

    Raises
    ------
    ValueError
        If a code breaks off or is none: pycocotools reads such without a word.
    """
    stops = np.cumsum([0, *map(len, codes)])
    digits = np.frombuffer(b"".join(codes), np.uint8).astype(np.int64) - ord("0")
    if np.diff(stops).min() == 0 or digits.min() < 0 or digits.max() > 63:
        raise ValueError("its run-length code has a wrong character, or no runs")
    if (digits[stops[1:] - 1] & 32).any():
        raise ValueError("its run-length code breaks off")
    last = np.flatnonzero(digits & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > 7:
        raise ValueError("a run of more than 32 bits")
    shift = 5 * (np.arange(len(digits)) - np.repeat(first, length))
    lengths = np.add.reduceat((digits & 31) << shift, first)
    lengths -= np.where(digits[last] & 16, 1 << (5 * length), 0)
    edges = np.searchsorted(last, stops)
    mask = np.repeat(np.arange(len(codes)), np.diff(edges))
    place = np.arange(len(lengths)) - edges[mask]
    for begin in (1, 2):  # the runs inside, and those outside but for the first
        chain = np.flatnonzero((place >= begin) & (place % 2 == begin % 2))
        sums = np.cumsum(lengths[chain])
        of_mask = np.searchsorted(mask[chain], mask[chain])
        lengths[chain] = sums - (sums - lengths[chain])[of_mask]
    return lengths, mask, place


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


def iou(first: Sequence[Rle], second: Sequence[Rle]) -> NDArray[np.float64]:
    """Intersection over union of every pair, shape (len(first), len(second)).

    Two empty masks have nothing in common: 0.
    """
    return _shares(first, second, of_first=False)


def overlap_with_smaller(rles: Sequence[Rle]) -> NDArray[np.float64]:
    """Intersection over the smaller mask of every pair, shape (n, n).

    1 where one lies inside the other; 0 where one is empty.
    """
    shares = _shares(rles, rles, of_first=True)
    return np.maximum(shares, shares.T)


def _shares(first: Sequence[Rle], second: Sequence[Rle], *, of_first: bool) -> NDArray[np.float64]:
    """Intersection of every pair over the first, as COCO has it of crowds, or over the union."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    shares = coco_mask.iou(list(first), list(second), [of_first] * len(second))
    return np.nan_to_num(np.asarray(shares, np.float64))


def nms(rles: Sequence[Rle], threshold: float, before: Sequence[Rle] = ()) -> NDArray[np.int64]:
    """Indices of the masks, best first, that no kept one before them overlaps by more.

    Parameters
    ----------
    before : masks that are kept already, and come before all others.
    """
    free = np.flatnonzero((iou(rles, before) <= threshold).all(axis=1))
    others = [rles[number] for number in free.tolist()]
    return free[greedy_nms(iou(others, others), threshold)]


def greedy_nms(similarity: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """Indices of those, best first, that are no more similar to a kept one before them.

    Parameters
    ----------
    similarity : (n, n).
    """
    kept: list[int] = []
    for number, to_others in enumerate(similarity):
        if not kept or to_others[kept].max() <= threshold:
            kept.append(number)
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
    return iou(rles, [_pixel(int(y), int(x), height, width) for y, x in points]) > 0


def _pixel(y: int, x: int, height: int, width: int) -> Rle:
    """The mask of a single pixel: runs go down the columns, background first."""
    before = x * height + y
    runs = [before, 1, height * width - before - 1]
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return rle
