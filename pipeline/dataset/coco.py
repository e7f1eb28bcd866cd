"""Datasets in COCO's format: photographs and annotation files.

The tags of an image are the categories of its annotations, including crowds. Masks are only read
for evaluation, where the pixels of crowds are void. Lin et al., Microsoft COCO, 2014.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from pipeline.artifacts.split import Photograph
from pipeline.artifacts.truth import TrueImage, TrueInstance, Truth
from pipeline.common import masks
from pipeline.common.coco_json import Annotation, Document, Image, read_document
from pipeline.common.errors import InputError
from pipeline.common.masks import Rle
from pipeline.common.segmentation import segmentation_rle
from pipeline.dataset.listing import Listed


def read_lists(tags: Path, root: Path, names: Sequence[str]) -> dict[str, list[Listed]]:
    """Read the images of the lists `names`, or of the list '' if `tags` is a single file.

    As in COCO, a folder of annotations contains `instances_NAME.json`, and the photographs are in
    `root / NAME`, or in `root` if this folder does not exist.

    Raises
    ------
    InputError
        If a file is missing or is not in COCO's format.
    """
    if tags.is_dir():
        return {name: _listed(annotation_file(tags, name), root, name) for name in names}
    return {"": _listed(tags, root, "")}


def annotation_file(tags: Path, name: str) -> Path:
    """Return the annotation file of a list; `tags` is the folder, or the only file."""
    return tags / f"instances_{name}.json" if tags.is_dir() else tags


def read_truth(path: Path, photographs: Sequence[Photograph], classes: tuple[str, ...]) -> Truth:
    """Read the masks of the photographs in which every object of the `classes` has a mask.

    Raises
    ------
    InputError
        If a mask cannot be read, or has another size than its photograph.
    """
    document = _read(path)
    names = _names(document)
    labels = {id_: classes.index(name) for id_, name in names.items() if name in classes}
    by_file = {image.file_name: image for image in document.images}
    by_image: dict[int | str, list[Annotation]] = defaultdict(list)
    other_objects: Counter[int | str] = Counter()
    for annotation in document.annotations:
        if annotation.category_id in labels:
            by_image[annotation.image_id].append(annotation)
        elif not annotation.iscrowd:
            other_objects[annotation.image_id] += 1
    images = []
    for photograph in photographs:
        entry = by_file[photograph.id]
        annotations = by_image[entry.id]
        if all(annotation.segmentation for annotation in annotations):
            _check_size(path, entry, photograph)
            others = other_objects[entry.id]
            images.append(_true_image(path, photograph, annotations, labels, others))
    # Without a single mask, an image without objects is not known to have none.
    if not any(annotation.segmentation for annotation in document.annotations):
        images = []
    return Truth(classes=classes, images=tuple(images))


def _listed(path: Path, root: Path, name: str) -> list[Listed]:
    document = _read(path)
    names = _names(document)
    tags: dict[int | str, set[str]] = {image.id: set() for image in document.images}
    for annotation in document.annotations:
        where = f"{path}: annotation {annotation.id}"
        if annotation.image_id not in tags:
            raise InputError(f"{where}: no image has the id {annotation.image_id}")
        if annotation.category_id not in names:
            raise InputError(f"{where}: no category has the id {annotation.category_id}")
        tags[annotation.image_id].add(names[annotation.category_id])
    prefix = f"{name}/" if name and (root / name).is_dir() else ""
    return [
        Listed(image.file_name, f"{prefix}{image.file_name}", frozenset(tags[image.id]))
        for image in document.images
    ]


def _names(document: Document) -> dict[int, str]:
    """Map the ids of categories to their names."""
    return {category.id: category.name.strip() for category in document.categories}


def _read(path: Path) -> Document:
    document = read_document(path, "no such file; expected annotations in COCO's format")
    for name, entries in (("images", document.images), ("categories", document.categories)):
        if not entries:
            raise InputError(f"{path}: not COCO annotations: {name}: at least one is needed")
    return document


def _check_size(path: Path, entry: Image, photograph: Photograph) -> None:
    if (entry.height, entry.width) != (photograph.height, photograph.width):
        raise InputError(
            f"{path}: image {entry.file_name}: {entry.width} x {entry.height} pixels, "
            f"but the photograph has {photograph.width} x {photograph.height} (upright)"
        )


def _true_image(
    path: Path,
    photograph: Photograph,
    annotations: Sequence[Annotation],
    labels: dict[int, int],
    other_objects: int,
) -> TrueImage:
    height, width = photograph.height, photograph.width
    instances, crowds = [], masks.encode(np.zeros((1, height, width), bool))
    for annotation in annotations:
        where = f"{path}: annotation {annotation.id}"
        rle = segmentation_rle(annotation.segmentation, height, width, where)
        if annotation.iscrowd:
            crowds.append(rle)
        elif masks.area([rle])[0]:
            label = labels[annotation.category_id]
            instances.append(TrueInstance(label=label, counts=rle["counts"].decode()))
    void: Rle = coco_mask.merge(crowds)
    return TrueImage(
        id=photograph.id,
        height=height,
        width=width,
        instances=tuple(instances),
        other_objects=other_objects,
        void=void["counts"].decode(),
    )
