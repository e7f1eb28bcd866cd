"""COCO segmentations of any form as compressed run-length codes."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.common.masks import Rle


def segmentation_rle(segmentation: Any, height: int, width: int, where: str) -> Rle:
    """Polygons or a run-length code, compressed or not, as a compressed run-length code.

    Raises
    ------
    InputError
        If it is neither, or not of an image of this height and width; `where` begins the line.
    """
    try:
        if isinstance(segmentation, list):
            return _filled(segmentation, height, width)
        if segmentation["size"] != [height, width]:
            raise ValueError(f"size {segmentation['size']}, the image's is {[height, width]}")
        counts = segmentation["counts"]
        if not isinstance(counts, list):
            counts = masks.runs([counts.encode()])[0].tolist()
        if not all(isinstance(run, int) and run >= 0 for run in counts):
            raise ValueError("a run is not a whole number of at least 0")
        if sum(counts) != height * width:
            raise ValueError(f"its runs are {sum(counts)} pixels, not {height * width} together")
        rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        return rle
    except KeyError as missing:
        raise InputError(f"{where}: no {missing} in its segmentation") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: no mask can be read from its segmentation ({error})") from None


def _filled(polygons: list[Any], height: int, width: int) -> Rle:
    """The union of polygons; those of fewer than three corners are nothing."""
    # pycocotools would take two corners for a box.
    shapes = [np.asarray(polygon, np.float64) for polygon in polygons if len(polygon) >= 6]
    if not shapes:
        return masks.encode(np.zeros((1, height, width), bool))[0]
    furthest = 2 * max(height, width)
    for shape in shapes:
        if shape.ndim != 1 or shape.size % 2:
            raise ValueError("a polygon is not a list of x and y in turn")
        # Nor is what lies far outside a mask; pycocotools walks the whole way there.
        if not np.all(np.abs(shape) <= furthest):
            raise ValueError(f"a corner is beyond {furthest} pixels, or not a number")
    drawn = coco_mask.frPyObjects([shape.tolist() for shape in shapes], height, width)
    merged: Rle = coco_mask.merge(drawn)
    return merged
