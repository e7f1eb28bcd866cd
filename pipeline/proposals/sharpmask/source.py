"""A folder with COCO annotations, the source of masks that SharpMask is trained on.

The folder holds `instances.json` and `images/`. Categories are only used to sample objects
evenly; their names are never read.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.common import files, masks
from pipeline.common.coco_json import Annotation, Image, read_document
from pipeline.common.errors import InputError
from pipeline.common.images import read_image
from pipeline.common.masks import Rle
from pipeline.common.segmentation import segmentation_rle

ANNOTATIONS = "instances.json"
IMAGES = "images"


@dataclass(frozen=True, slots=True)
class SourceObject:
    """An object: its category, mask and box.

    Attributes
    ----------
    category : COCO's category id.
    counts : the mask as compressed run-length encoding.
    box : x, y, width, height of the tight box, in pixels of the image.
    """

    category: int
    counts: bytes
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image, its objects, and the boxes of its crowd annotations."""

    path: Path
    height: int
    width: int
    objects: tuple[SourceObject, ...]
    crowds: tuple[tuple[float, float, float, float], ...]

    def pixels(self) -> NDArray[np.uint8]:
        """Read the image: RGB, uint8 (height, width, 3).

        Raises
        ------
        InputError
            If it cannot be read, or its size differs from the annotations.
        """
        pixels = read_image(self.path)
        if pixels.shape[:2] != (self.height, self.width):
            found = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise InputError(
                f"{self.path}: {found} pixels, but {self.width} x {self.height} in {ANNOTATIONS}"
            )
        return pixels

    def mask(self, thing: SourceObject) -> NDArray[np.bool_]:
        """Decode an object's mask, bool (height, width)."""
        rle: Rle = {"size": [self.height, self.width], "counts": thing.counts}
        mask: NDArray[np.bool_] = masks.decode([rle], self.height, self.width)[0]
        return mask


def read_source(folder: Path) -> list[SourceImage]:
    """Read the annotations of a source, and check that its images exist.

    Empty masks are left out. Of crowds only the boxes are kept.

    Raises
    ------
    InputError
        If the folder, the annotations or an image is missing, or the annotations are not in
        COCO format.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; a proposal source holds {ANNOTATIONS} and {IMAGES}/"
        )
    document = read_document(folder / ANNOTATIONS, "missing")
    by_image: dict[int | str, list[Annotation]] = defaultdict(list)
    for annotation in document.annotations:
        by_image[annotation.image_id].append(annotation)
    images = [_image(folder, entry, by_image.pop(entry.id, [])) for entry in document.images]
    if by_image:
        raise InputError(
            f"{folder / ANNOTATIONS}: no image has the id {next(iter(by_image))} of an annotation"
        )
    return images


def _image(folder: Path, entry: Image, annotations: list[Annotation]) -> SourceImage:
    path = files.inside(folder / IMAGES, entry.file_name, f"missing, though {ANNOTATIONS} lists it")
    height, width = entry.height, entry.width
    objects, crowds = [], []
    for annotation in annotations:
        where = f"{folder / ANNOTATIONS}: annotation {annotation.id}"
        rle = segmentation_rle(annotation.segmentation, height, width, where)
        if not masks.area([rle])[0]:
            continue
        x, y, w, h = (float(value) for value in masks.boxes([rle])[0])
        if annotation.iscrowd:
            crowds.append((x, y, w, h))
        else:
            objects.append(SourceObject(annotation.category_id, rle["counts"], (x, y, w, h)))
    return SourceImage(path, height, width, tuple(objects), tuple(crowds))
