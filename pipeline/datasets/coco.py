"""A folder in the form of COCO, as a source of masks of any objects.

The folder holds `instances.json` and `images/`. Categories serve to draw objects evenly; their
names are never used.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline import masks
from pipeline.errors import InputError
from pipeline.images import read_image
from pipeline.masks import Rle

ANNOTATIONS = "instances.json"
IMAGES = "images"


@dataclass(frozen=True, slots=True)
class SourceObject:
    """One object: its category, its mask as compressed run-length bytes, its tight box.

    box : x, y, width, height in pixels of its image.
    """

    category: int
    counts: bytes
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image, its objects, and the boxes of the crowds on it."""

    path: Path
    height: int
    width: int
    objects: tuple[SourceObject, ...]
    crowds: tuple[tuple[float, float, float, float], ...]

    def pixels(self) -> NDArray[np.uint8]:
        """Decode, RGB, shape (height, width, 3).

        Raises
        ------
        InputError
            If it cannot be read, or is not of the size that the annotations say.
        """
        pixels = read_image(self.path)
        if pixels.shape[:2] != (self.height, self.width):
            found = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise InputError(
                f"{self.path}: {found} pixels, but {ANNOTATIONS} says {self.width} x {self.height}"
            )
        return pixels

    def mask(self, thing: SourceObject) -> NDArray[np.bool_]:
        """Decode an object's mask, shape (height, width)."""
        rle: Rle = {"size": [self.height, self.width], "counts": thing.counts}
        mask: NDArray[np.bool_] = masks.decode([rle], self.height, self.width)[0]
        return mask


def read_source(folder: Path) -> list[SourceImage]:
    """Read the annotations of a source; its images are only looked for.

    Annotations without a pixel are left out, and crowds are kept as boxes alone.

    Raises
    ------
    InputError
        If the folder, its annotations or an image is missing, or they are not COCO's.
    """
    document = _read_document(folder)
    by_image: dict[Any, list[Any]] = defaultdict(list)
    try:
        for annotation in document["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        images = [
            _image(folder, entry, by_image.pop(entry["id"], [])) for entry in document["images"]
        ]
    except KeyError as missing:
        raise InputError(f"{folder / ANNOTATIONS}: not COCO annotations: no {missing}") from None
    except (TypeError, AttributeError) as error:
        raise InputError(f"{folder / ANNOTATIONS}: not COCO annotations: {error}") from None
    if by_image:
        raise InputError(f"{folder / ANNOTATIONS}: annotations of no image: {next(iter(by_image))}")
    return images


def _read_document(folder: Path) -> Any:
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; a proposal source holds {ANNOTATIONS} and {IMAGES}/"
        )
    try:
        return json.loads((folder / ANNOTATIONS).read_bytes())
    except FileNotFoundError:
        raise InputError(f"{folder / ANNOTATIONS}: missing") from None
    except ValueError as error:
        raise InputError(f"{folder / ANNOTATIONS}: not JSON ({error})") from None


def _image(folder: Path, entry: Mapping[str, Any], annotations: list[Any]) -> SourceImage:
    path = folder / IMAGES / entry["file_name"]
    if not path.is_file():
        raise InputError(f"{path}: missing, though {ANNOTATIONS} lists it")
    height, width = int(entry["height"]), int(entry["width"])
    objects, crowds = [], []
    for annotation in annotations:
        where = f"{folder / ANNOTATIONS}: annotation {annotation['id']}"
        rle = segmentation_rle(annotation["segmentation"], height, width, where)
        if not masks.area([rle])[0]:
            continue
        x, y, w, h = (float(value) for value in masks.boxes([rle])[0])
        if annotation.get("iscrowd"):
            crowds.append((x, y, w, h))
        else:
            objects.append(SourceObject(annotation["category_id"], rle["counts"], (x, y, w, h)))
    return SourceImage(path, height, width, tuple(objects), tuple(crowds))


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
