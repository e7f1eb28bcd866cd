"""Generated scenes as files: target scenes as Pascal VOC, source scenes as COCO."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle
from scipy.ndimage import find_objects, grey_dilation

from pipeline.dataset.scenes.patterns import CLASSES, SOURCE_CLASSES
from pipeline.dataset.scenes.scene import Scene, source_scene, target_scene

Progress = Callable[[Iterable[int], int], Iterable[int]]
# Objects of which less is visible are marked difficult: as a fraction, and in pixels.
EASY_SHARE, EASY_PIXELS = 0.75, 240
VOID = 255


def _quietly(items: Iterable[int], _total: int) -> Iterable[int]:
    return items


def draw_voc(
    folder: Path, lists: Mapping[str, int], seed: int, progress: Progress = _quietly
) -> None:
    """Write target scenes as Pascal VOC.

    Parameters
    ----------
    folder : Path
        Gets JPEGImages, Annotations, SegmentationObject, SegmentationClass and ImageSets.
    lists : mapping from str to int
        Number of images of each list, such as ``{"train": 240, "val": 80}``; lists share none.
    seed : int
        Not negative.
    progress : callable
        Called once a list with the indices of its images and their number; yields the indices.
    """
    for name in ("JPEGImages", "Annotations", "SegmentationObject", "SegmentationClass"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for list_name, count in lists.items():
        shown = {}
        for k in progress(range(count), count):
            stem, scene = f"{list_name}_{k:06d}", target_scene(seed, list_name, k)
            _save_photograph(folder / "JPEGImages" / f"{stem}.jpg", scene)
            _save_annotation(folder / "Annotations" / f"{stem}.xml", folder.name, scene)
            _save_masks(folder, f"{stem}.png", scene)
            shown[stem] = _presence(scene)
        _save_lists(folder / "ImageSets", list_name, shown)


def _save_photograph(path: Path, scene: Scene) -> None:
    Image.fromarray(scene.image).save(path, quality=92)


def _save_annotation(path: Path, folder: str, scene: Scene) -> None:
    """Write boxes as VOC does: counted from 1, their last pixels included."""
    height, width = scene.labels.shape
    nodes = [_element("size", width=width, height=height, depth=3)]
    windows = find_objects(scene.labels)
    for name, difficult, (y, x) in zip(scene.names, _difficult(scene), windows, strict=True):
        box = _element("bndbox", xmin=x.start + 1, ymin=y.start + 1, xmax=x.stop, ymax=y.stop)
        nodes.append(_element("object", box, name=name, difficult=int(difficult)))
    root = _element("annotation", *nodes, folder=folder, filename=f"{path.stem}.jpg", segmented=1)
    ET.indent(root, "\t")
    path.write_text(ET.tostring(root, encoding="unicode"))


def _element(tag: str, *children: ET.Element, **texts: object) -> ET.Element:
    """Return a node with its simple fields, `texts`, before its other `children`."""
    node = ET.Element(tag)
    for field, text in texts.items():
        ET.SubElement(node, field).text = str(text)
    node.extend(children)
    return node


def _save_masks(folder: Path, name: str, scene: Scene) -> None:
    numbers = np.array([0, *(CLASSES.index(c) + 1 for c in scene.names)], dtype=np.uint8)
    rim = grey_dilation(scene.labels, (3, 3)) != scene.labels
    masks = {"SegmentationObject": scene.labels, "SegmentationClass": numbers[scene.labels]}
    for part, mask in masks.items():
        image = Image.fromarray(np.where(rim, np.uint8(VOID), mask))
        image.putpalette(_voc_palette())
        image.save(folder / part / name)


def _voc_palette() -> list[int]:
    """Return 256 times RGB: the bits of an index, dealt out to the channels from the top."""
    index, channel = np.arange(256)[:, None], np.arange(3)
    bits = [(index >> (3 * k + channel) & 1) << (7 - k) for k in range(3)]
    return [int(value) for value in np.sum(bits, axis=0).ravel()]


def _difficult(scene: Scene) -> list[bool]:
    """Return for each instance whether it is very small or mostly hidden."""
    areas = np.bincount(scene.labels.ravel())[1:].tolist()
    return [
        area < EASY_PIXELS or share < EASY_SHARE
        for area, share in zip(areas, scene.shares, strict=True)
    ]


def _presence(scene: Scene) -> dict[str, int]:
    """Return 1 for a class seen, 0 for one with difficult instances only, -1 for one not seen."""
    presence = dict.fromkeys(CLASSES, -1)
    for name, difficult in zip(scene.names, _difficult(scene), strict=True):
        presence[name] = max(presence[name], int(not difficult))
    return presence


def _save_lists(folder: Path, list_name: str, shown: Mapping[str, Mapping[str, int]]) -> None:
    """Write the ids of a list, and per class the ids with what the images show."""
    for part in ("Main", "Segmentation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / f"{list_name}.txt").write_text("".join(f"{stem}\n" for stem in shown))
    for c in CLASSES:
        lines = (f"{stem} {presence[c]:2d}\n" for stem, presence in shown.items())
        (folder / "Main" / f"{c}_{list_name}.txt").write_text("".join(lines))


def draw_coco(folder: Path, images: int, seed: int, progress: Progress = _quietly) -> None:
    """Write source scenes as COCO: `folder`/images and `folder`/instances.json.

    Parameters
    ----------
    folder : Path
        Created if it is missing.
    images : int
        Number of images.
    seed : int
        Not negative.
    progress : callable
        Called with the indices of the images and their number; yields the indices.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    categories = [{"id": i, "name": name} for i, name in enumerate(SOURCE_CLASSES, 1)]
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for k in progress(range(images), images):
        scene, file = source_scene(seed, k), f"{k:06d}.jpg"
        _save_photograph(folder / "images" / file, scene)
        height, width = scene.labels.shape
        entries.append({"id": k + 1, "file_name": file, "height": height, "width": width})
        annotations += _coco_annotations(scene, k + 1, len(annotations) + 1)
    document = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))


def _coco_annotations(scene: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    numbers = np.arange(1, len(scene.names) + 1)
    masks = np.asfortranarray(scene.labels[..., None] == numbers, dtype=np.uint8)
    return [
        {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": SOURCE_CLASSES.index(scene.names[i]) + 1,
            "bbox": rle.toBbox(code).tolist(),
            "area": int(rle.area(code)),
            "iscrowd": 0,
            "segmentation": {**code, "counts": code["counts"].decode("ascii")},
        }
        for i, code in enumerate(rle.encode(masks))
    ]
