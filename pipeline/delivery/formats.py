"""Instances in the formats of other tools: COCO, label maps, YOLO, and pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.distance import cdist
from skimage import measure

from pipeline.artifacts import coco
from pipeline.artifacts.instances import Instances
from pipeline.common import files, masks
from pipeline.common.errors import InputError
from pipeline.drawing import canvas as drawing

# Maximum distance of a polygon from the mask's edge, in pixels.
POLYGON_TOLERANCE = 0.3
# Minimum area of a further part of an object, as a fraction of the object.
MIN_PART_AREA = 0.01
# A part of less than three corners is no polygon.
_MIN_CORNERS = 3
_MAGNIFICATION = 4


@dataclass(frozen=True)
class Prediction:
    """A photograph and its detected instances.

    Attributes
    ----------
    file : path of the photograph.
    name : unique name of its output files, without a suffix.
    pixels : RGB, uint8 (h, w, 3).
    instances : the detections, by descending score.
    """

    file: Path
    name: str
    pixels: NDArray[np.uint8]
    instances: Instances


def polygons(
    mask: NDArray[np.bool_], tolerance: float = POLYGON_TOLERANCE
) -> list[NDArray[np.float64]]:
    """Return the outlines of the parts of a mask, bool (h, w), the largest part first.

    Parts smaller than `MIN_PART_AREA` of the mask are left out, except for the largest.

    Parameters
    ----------
    tolerance : maximum distance of a polygon from the mask's edge, in pixels. A part that would
        have less than three corners is followed to `POLYGON_TOLERANCE`.

    Returns
    -------
    For each part a polygon, float64 (n, 2), of points (x, y) in pixels from the upper left corner,
    along the edges of its pixels. Holes are filled.
    """
    labels = measure.label(mask, connectivity=1)
    largest, *others = sorted(measure.regionprops(labels), key=lambda part: -part.area)
    parts = [largest, *(part for part in others if part.area >= MIN_PART_AREA * mask.sum())]
    return [_outline(part, tolerance) for part in parts]


def _outline(part: Any, tolerance: float) -> NDArray[np.float64]:
    # A margin of background closes the outline; magnification keeps its corners.
    framed = np.pad(part.image_filled, 1).repeat(_MAGNIFICATION, 0).repeat(_MAGNIFICATION, 1)
    outline = max(measure.find_contours(framed.astype(np.float32), 0.5), key=len)
    edges = (outline + 0.5) / _MAGNIFICATION - 1 + part.bbox[:2]
    corners = measure.approximate_polygon(edges, tolerance)
    if len(corners) <= _MIN_CORNERS:  # the first is repeated
        corners = measure.approximate_polygon(edges, POLYGON_TOLERANCE)
    return np.asarray(corners[:-1, ::-1], np.float64)


def yolo_lines(instances: Instances, height: int, width: int) -> list[str]:
    """Return one line per instance: its class, from 0, and x y x y ... in 0..1.

    The format has a single polygon per object, so the parts of an object are linked.
    """
    lines = []
    decoded = masks.decode(instances.masks, height, width)
    for label, mask in zip(instances.label, decoded, strict=True):
        numbers = np.clip(linked(polygons(mask)) / [width, height], 0, 1).ravel()
        lines.append(" ".join([str(int(label)), *(f"{number:.6f}" for number in numbers)]))
    return lines


def linked(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Link polygons to one, by connecting each part to the nearest corner and back."""
    whole = parts[0]
    for part in parts[1:]:
        distance = cdist(whole, part)
        corner, start = np.unravel_index(distance.argmin(), distance.shape)
        around = np.roll(part, -start, axis=0)
        whole = np.concatenate([whole[: corner + 1], around, around[:1], whole[corner:]])
    return whole


def label_maps(
    instances: Instances, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Compute the class and the instance of each pixel; 0 is the background.

    Where instances overlap, the one of the highest score is on top.

    Returns
    -------
    classes : uint8 (height, width), from 1.
    numbers : uint16 (height, width), from 1, by descending score.
    """
    classes = np.zeros((height, width), np.uint8)
    numbers = np.zeros((height, width), np.uint16)
    decoded = masks.decode(instances.masks, height, width)
    for number in range(len(decoded), 0, -1):
        classes[decoded[number - 1]] = instances.label[number - 1] + 1
        numbers[decoded[number - 1]] = number
    return classes, numbers


def picture(prediction: Prediction, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Draw the instances on the photograph with tint, outline and name, the best on top."""
    found, pixels = prediction.instances, prediction.pixels
    tints = [drawing.colors(len(classes))[label] for label in found.label[::-1]]
    shapes = masks.decode(found.masks[::-1], *pixels.shape[:2])
    drawn = drawing.outline(drawing.overlay(pixels, shapes, tints), shapes, tints)
    corners = masks.boxes(found.masks[::-1])[:, :2].astype(int)
    named = zip(corners, found.label[::-1], found.score[::-1], tints, strict=True)
    for (x, y), label, score, tint in named:
        drawn = drawing.draw_name(drawn, (int(y), int(x)), f"{classes[label]} {score:.2f}", tint)
    return drawn


def write_overlay(prediction: Prediction, classes: Sequence[str], out: Path) -> None:
    """Write overlays/NAME.png."""
    drawing.save_png(out / "overlays" / f"{prediction.name}.png", picture(prediction, classes))


def write_label_maps(prediction: Prediction, classes: Sequence[str], out: Path) -> None:
    """Write label_maps/classes/NAME.png (8 bits) and label_maps/instances/NAME.png (16 bits)."""
    if len(classes) > np.iinfo(np.uint8).max:
        raise InputError(f"{len(classes)} classes: a label map of 8 bits holds at most 255")
    height, width = prediction.pixels.shape[:2]
    classes_map, instances_map = label_maps(prediction.instances, height, width)
    maps: dict[str, NDArray[Any]] = {"classes": classes_map, "instances": instances_map}
    for kind, values in maps.items():
        path = out / "label_maps" / kind / f"{prediction.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(values)).save(path)


def write_yolo(prediction: Prediction, _: Sequence[str], out: Path) -> None:
    """Write yolo/labels/NAME.txt; the file is empty if nothing was found."""
    lines = yolo_lines(prediction.instances, *prediction.pixels.shape[:2])
    text = "".join(f"{line}\n" for line in lines)
    files.write_bytes(out / "yolo" / "labels" / f"{prediction.name}.txt", text.encode())


Writer = Callable[[Prediction, Sequence[str], Path], None]

# Formats with a file per photograph. COCO's files contain all photographs, see `CocoFiles`.
WRITERS: dict[str, Writer] = {
    "overlay": write_overlay,
    "labels": write_label_maps,
    "yolo": write_yolo,
}


def write_class_names(classes: Sequence[str], formats: Sequence[str], out: Path) -> None:
    """Write the class names of the numbers in label maps and YOLO files."""
    if "labels" in formats:
        numbered = {"0": "background", **{str(i): name for i, name in enumerate(classes, 1)}}
        files.write_json(out / "label_maps" / "classes.json", numbered, indent=1)
    if "yolo" in formats:
        names = "".join(f"{name}\n" for name in classes)
        files.write_bytes(out / "yolo" / "classes.txt", names.encode())


class CocoFiles:
    """Collects predictions, and writes them as COCO annotations and as COCO results.

    `coco/annotations.json` contains images, categories, and annotations with scores.
    `coco/results.json` is the list for `loadRes` of pycocotools.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._annotations = coco.CocoAnnotations(classes, "instances predicted by WISE")

    def add(self, prediction: Prediction) -> None:
        """Add a photograph, under the path that was given, and its instances."""
        height, width = prediction.pixels.shape[:2]
        found = prediction.instances
        self._annotations.add(
            str(prediction.file), height, width, found.masks, found.label, found.score
        )

    def write(self, out: Path) -> None:
        """Write both files."""
        content = self._annotations.content()
        kept = ("image_id", "category_id", "segmentation", "score")
        results: list[dict[str, Any]] = [
            {key: annotation[key] for key in kept} for annotation in content["annotations"]
        ]
        self._annotations.write(out / "coco" / "annotations.json")
        files.write_json(out / "coco" / "results.json", results)
