"""Conversion of COCO segmentations to compressed run-length encodings."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.common.masks import Rle


def segmentation_rle(segmentation: Any, height: int, width: int, where: str) -> Rle:
    """Convert a COCO segmentation to a compressed run-length encoding.

    Parameters
    ----------
    segmentation : polygons, or a run-length encoding, compressed or not.
    height, width : of the image, in pixels.
    where : prefix of error messages.

    Raises
    ------
    InputError
        If the segmentation is invalid, or its size is not that of the image.
    """
    try:
        if isinstance(segmentation, list):
            return _polygons_rle(segmentation, height, width)
        if segmentation["size"] != [height, width]:
            raise ValueError(f"size {segmentation['size']}, but the image has {[height, width]}")
        counts = segmentation["counts"]
        if not isinstance(counts, list):
            counts = masks.runs([counts.encode()])[0].tolist()
        if not all(type(run) is int and run >= 0 for run in counts):
            raise ValueError("a run is not an integer of at least 0")
        if sum(counts) != height * width:
            raise ValueError(f"its runs sum to {sum(counts)} pixels, not {height * width}")
        rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        return rle
    except KeyError as missing:
        raise InputError(f"{where}: no {missing} in its segmentation") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{where}: no mask can be read from its segmentation ({error})") from None


def _polygons_rle(polygons: list[Any], height: int, width: int) -> Rle:
    """Encode the union of polygons; those with fewer than three corners are ignored."""
    # pycocotools would take four numbers for a box.
    if not all(isinstance(polygon, list) for polygon in polygons):
        raise ValueError("a polygon is not a list")
    shapes = [np.asarray(polygon) for polygon in polygons if len(polygon) >= 6]
    if not shapes:
        return masks.encode(np.zeros((1, height, width), bool))[0]
    limit = 2 * max(height, width)
    for shape in shapes:
        if shape.ndim != 1 or shape.size % 2 or shape.dtype.kind not in "iuf":
            raise ValueError("a polygon is not a list of alternating x and y")
        # The time that pycocotools takes grows with the length of the edges.
        if not np.all(np.abs(shape) <= limit):
            raise ValueError(f"a corner is beyond {limit} pixels, or not a number")
    drawn = coco_mask.frPyObjects([shape.tolist() for shape in shapes], height, width)
    merged: Rle = coco_mask.merge(drawn)
    return merged
