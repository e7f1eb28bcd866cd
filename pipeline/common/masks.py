"""Binary masks as COCO run-length encodings (RLE), based on pycocotools.

On real masks, run-length encoding is the most compact lossless format. Areas, boxes and IoU are
computed from it without decoding, and COCO's tools read it.
"""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

_DECODE_BATCH_SIZE = 64
# At most so many masks are compared without use of the symmetry.
_SMALL_BLOCK = 16


class Rle(TypedDict):
    """COCO's compressed run-length encoding of one mask.

    size : [height, width] in pixels.
    counts : the compressed run lengths.
    """

    size: list[int]
    counts: bytes


def encode(masks: NDArray[np.bool_]) -> list[Rle]:
    """Encode bool masks of shape (n, height, width)."""
    column_major = np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)
    return list(coco_mask.encode(column_major))


def decode(rles: Sequence[Rle], height: int, width: int) -> NDArray[np.bool_]:
    """Decode to bool masks of shape (n, height, width).

    Masks are decoded in batches, which is several times faster than pycocotools.

    Raises
    ------
    ValueError
        If a code is invalid or does not have height * width pixels.
    """
    # In column-major order, as the codes are.
    decoded = np.zeros((len(rles), width * height), bool)
    for start in range(0, len(rles), _DECODE_BATCH_SIZE):
        batch = slice(start, start + _DECODE_BATCH_SIZE)
        _decode_into(decoded[batch].reshape(-1), [rle["counts"] for rle in rles[batch]])
    return decoded.reshape(len(rles), width, height).transpose(0, 2, 1)


def _decode_into(pixels: NDArray[np.bool_], codes: Sequence[bytes]) -> None:
    """Set the foreground pixels of concatenated, flat masks of equal size."""
    size = len(pixels) // len(codes)
    lengths, mask, position = runs(codes)
    ends = np.cumsum(lengths)
    if not np.array_equal(ends[np.diff(mask, append=-1) != 0], size * np.arange(1, len(codes) + 1)):
        raise ValueError(f"a run-length code does not have {size} pixels")
    inside = position % 2 == 1
    run, start = lengths[inside], (ends - lengths)[inside]
    # Concatenate the indices of all runs: each run is a range that begins at its start.
    index = np.repeat(start - (np.cumsum(run) - run), run)
    index += np.arange(len(index))
    pixels[index] = True


def runs(
    codes: Sequence[bytes],
) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]:
    """Decompress run-length codes (COCO API, maskApi.c, rleFrString).

    Runs alternate between background and foreground, beginning with background. A number is
    written in base 32, lowest digit first, as characters from '0' on. Bit 5 is set in every
    digit but the last, whose bit 4 is the sign. From the fourth number on, a number is the
    difference between its run and the second run before it.

    Returns
    -------
    Length in pixels of every run, int64 (r,); index of its mask, intp (r,); and its position
    among the runs of that mask, intp (r,).

    Raises
    ------
    ValueError
        If a code is truncated or invalid. pycocotools reads such codes without an error.
    """
    stops = np.cumsum([0, *map(len, codes)])
    digits = np.frombuffer(b"".join(codes), np.uint8).astype(np.int64) - ord("0")
    if np.diff(stops).min() == 0 or digits.min() < 0 or digits.max() > 63:
        raise ValueError("its run-length code is empty or has an invalid character")
    if (digits[stops[1:] - 1] & 32).any():
        raise ValueError("its run-length code is truncated")
    last = np.flatnonzero(digits & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    if length.max() > 7:
        raise ValueError("a run length exceeds 32 bits")
    shift = 5 * (np.arange(len(digits)) - np.repeat(first, length))
    lengths = np.add.reduceat((digits & 31) << shift, first)
    lengths -= np.where(digits[last] & 16, 1 << (5 * length), 0)
    edges = np.searchsorted(last, stops)
    mask = np.repeat(np.arange(len(codes)), np.diff(edges))
    position = np.arange(len(lengths)) - edges[mask]
    for begin in (1, 2):  # foreground runs, then background runs without the first
        chain = np.flatnonzero((position >= begin) & (position % 2 == begin % 2))
        sums = np.cumsum(lengths[chain])
        first_in_mask = np.searchsorted(mask[chain], mask[chain])
        lengths[chain] = sums - (sums - lengths[chain])[first_in_mask]
    return lengths, mask, position


def from_counts(counts: Sequence[NDArray[np.uint8]], height: int, width: int) -> list[Rle]:
    """Make run-length encodings from stored bytes, uint8 (length,) per mask."""
    return [{"size": [height, width], "counts": code.tobytes()} for code in counts]


def to_counts(rles: Sequence[Rle]) -> list[NDArray[np.uint8]]:
    """Return the bytes of run-length encodings as arrays for a store, uint8 (length,) per mask."""
    return [np.frombuffer(rle["counts"], np.uint8) for rle in rles]


def area(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """Area of every mask in pixels, int64 (n,)."""
    # One by one: with NumPy 2, pycocotools 2.0.11 fails on lists of more than 255 masks.
    return np.array([coco_mask.area(rle) for rle in rles], np.int64)


def largest_first(rles: Sequence[Rle]) -> NDArray[np.intp]:
    """Indices of masks by descending area, intp (n,): drawn so, large ones hide no small ones."""
    return np.argsort(-area(rles), kind="stable")


def boxes(rles: Sequence[Rle]) -> NDArray[np.float64]:
    """Bounding boxes (x, y, width, height) in pixels, float64 (n, 4)."""
    return np.asarray(coco_mask.toBbox(list(rles)), np.float64).reshape(-1, 4)


def corners(rles: Sequence[Rle]) -> NDArray[np.float64]:
    """Bounding boxes (x1, y1, x2, y2) in pixels, float64 (n, 4)."""
    found = boxes(rles)
    found[:, 2:] += found[:, :2]
    return found


def iou(first: Sequence[Rle], second: Sequence[Rle]) -> NDArray[np.float64]:
    """Intersection over union (IoU) of every pair, float64 (len(first), len(second)).

    The IoU of two empty masks is 0.
    """
    return _overlap(first, second, over_first=False)


def iou_of_pairs(rles: Sequence[Rle]) -> NDArray[np.float64]:
    """IoU of every two of n masks, float64 (n, n): `iou(rles, rles)` in about half the time.

    The matrix is symmetric: the upper right quarter is copied to the lower left one.
    """
    if len(rles) <= _SMALL_BLOCK:
        return iou(rles, rles)
    first, second = rles[: len(rles) // 2], rles[len(rles) // 2 :]
    across = iou(first, second)
    return np.block([[iou_of_pairs(first), across], [across.T, iou_of_pairs(second)]])


def overlap_with_smaller(rles: Sequence[Rle]) -> NDArray[np.float64]:
    """Intersection over the area of the smaller mask, for every pair: float64 (n, n).

    It is 1 where one mask lies inside the other, and 0 where one is empty.
    """
    overlap = _overlap(rles, rles, over_first=True)
    return np.maximum(overlap, overlap.T)


def _overlap(
    first: Sequence[Rle], second: Sequence[Rle], *, over_first: bool
) -> NDArray[np.float64]:
    """Intersection of every pair over the union, or over the area of the first mask.

    COCO defines the latter for crowds.
    """
    if not first or not second:
        return np.zeros((len(first), len(second)))
    overlap = coco_mask.iou(list(first), list(second), [over_first] * len(second))
    return np.nan_to_num(np.asarray(overlap, np.float64))


def nms(rles: Sequence[Rle], threshold: float, kept: Sequence[Rle] = ()) -> NDArray[np.int64]:
    """Greedy non-maximum suppression of masks by IoU.

    Parameters
    ----------
    rles : n masks, sorted by descending score.
    threshold : a mask is dropped if its IoU with a kept mask of higher score exceeds this.
    kept : masks that have been kept before, with higher scores than all of `rles`.

    Returns
    -------
    Indices of the masks that are kept, int64, ascending.
    """
    candidates = np.flatnonzero((iou(rles, kept) <= threshold).all(axis=1))
    remaining = [rles[index] for index in candidates.tolist()]
    return candidates[greedy_nms(iou_of_pairs(remaining), threshold)]


def greedy_nms(similarity: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """Greedy non-maximum suppression by a matrix of similarities.

    Parameters
    ----------
    similarity : of every pair of items sorted by descending score, float64 (n, n).
    threshold : an item is dropped if its similarity to a kept item of higher score exceeds this.

    Returns
    -------
    Indices of the items that are kept, int64, ascending.
    """
    kept: list[int] = []
    for index, similarities in enumerate(similarity):
        if not kept or similarities[kept].max() <= threshold:
            kept.append(index)
    return np.array(kept, np.int64)


def suppress_within_classes(
    rles: Sequence[Rle], label: NDArray[np.int16], max_overlap: float
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression of masks within their class, by their overlap.

    The overlap is the intersection as a fraction of the smaller mask: 1 for a part of the other.

    Parameters
    ----------
    rles : n masks, sorted by descending score.
    label : int16 (n,), index of the class of each mask.
    max_overlap : a mask is dropped if its overlap with a kept mask of its class and of higher
        score exceeds this; 1 drops none.

    Returns
    -------
    Indices of the masks that are kept, int64, ascending.
    """
    if max_overlap == 1:
        return np.arange(len(rles))
    same_class = label[:, None] == label
    return greedy_nms(overlap_with_smaller(rles) * same_class, max_overlap)


def contains(rles: Sequence[Rle], points: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Test which masks contain which pixels.

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
    """Encode the mask of a single pixel: column-major runs, background first."""
    before = x * height + y
    runs = [before, 1, height * width - before - 1]
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return rle
