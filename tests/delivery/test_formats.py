import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from pipeline.artifacts.instances import Instances
from pipeline.common import masks
from pipeline.delivery.formats import (
    POLYGON_TOLERANCE,
    WRITERS,
    CocoFiles,
    Prediction,
    label_maps,
    polygons,
    yolo_lines,
)

HEIGHT, WIDTH = 40, 60
CLASSES = ("cat", "dog")


def shapes():
    """An ellipse on the border, and an object in two parts that overlaps it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ellipse = ((y - 10) / 12) ** 2 + ((x - 15) / 20) ** 2 <= 1
    parts = np.zeros((HEIGHT, WIDTH), bool)
    parts[5:20, 25:40] = parts[30:38, 50:60] = True
    return np.stack([ellipse, parts])


@pytest.fixture
def prediction(tmp_path):
    labels, scores = np.array([1, 0], np.int16), np.array([0.9, 0.5], np.float32)
    instances = Instances(masks.encode(shapes()), labels, scores)
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    return Prediction(tmp_path / "one.jpg", "one", pixels, instances)


def found(shapes):
    count = len(shapes)
    return Instances(masks.encode(shapes), np.zeros(count, np.int16), np.ones(count, np.float32))


def filled(outlines):
    """Draw polygons anew with another library, four times as large to hit pixel centres."""
    image = Image.new("1", (4 * WIDTH, 4 * HEIGHT))
    for outline in outlines:
        ImageDraw.Draw(image).polygon([(4 * x - 0.5, 4 * y - 0.5) for x, y in outline], fill=1)
    return np.asarray(image)[2::4, 2::4]


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def test_polygons_drawn_again_are_the_mask():
    for mask, parts in zip(shapes(), (1, 2), strict=True):
        outlines = polygons(mask)
        assert len(outlines) == parts
        assert iou(filled(outlines), mask) > 0.99
    rectangle, _ = polygons(shapes()[1])
    extent = [*rectangle.min(0), *rectangle.max(0)]
    np.testing.assert_allclose(extent, [25, 5, 40, 20], atol=POLYGON_TOLERANCE)


def test_a_single_pixel_has_an_outline_and_a_hole_is_filled():
    pixel = np.zeros((5, 5), bool)
    pixel[2, 3] = True
    (outline,) = polygons(pixel)
    assert len(outline) >= 3
    ring = np.ones((9, 9), bool)
    ring[3:6, 3:6] = False
    (outline,) = polygons(ring)
    assert (outline.min(), outline.max()) == (0, 9)


def test_yolo_lines_are_in_parts_of_one(prediction):
    lines = [line.split() for line in yolo_lines(prediction.instances, HEIGHT, WIDTH)]
    assert [int(line[0]) for line in lines] == [1, 0]
    outlines = [np.array(line[1:], float).reshape(-1, 2) * [WIDTH, HEIGHT] for line in lines]
    assert iou(filled(outlines[:1]), shapes()[0]) > 0.99
    # In two parts, that a line without width links: what it crosses is drawn too.
    assert iou(filled(outlines[1:]), shapes()[1]) > 0.95


def test_yolo_lines_leave_specks_out():
    mask = shapes()[:1].copy()
    whole = yolo_lines(found(mask), HEIGHT, WIDTH)
    mask[0, 39, 59] = True
    assert yolo_lines(found(mask), HEIGHT, WIDTH) == whole
    mask[0, 33:, 53:] = True
    assert yolo_lines(found(mask), HEIGHT, WIDTH) != whole
    mask[:] = False
    mask[0, ::2, ::2] = True  # nothing but specks
    assert len(yolo_lines(found(mask), HEIGHT, WIDTH)) == 1


def test_the_better_instance_is_seen_in_label_maps(prediction):
    classes, numbers = label_maps(prediction.instances, HEIGHT, WIDTH)
    first, second = shapes()
    assert (first & second).any()
    np.testing.assert_array_equal(numbers, np.where(first, 1, np.where(second, 2, 0)))
    np.testing.assert_array_equal(classes, np.where(first, 2, np.where(second, 1, 0)))


def test_written_files_read_back(prediction, tmp_path):
    for write in WRITERS.values():
        write(prediction, CLASSES, tmp_path)
    maps = label_maps(prediction.instances, HEIGHT, WIDTH)
    for kind, values in zip(("classes", "instances"), maps, strict=True):
        with Image.open(tmp_path / "label_maps" / kind / "one.png") as image:
            np.testing.assert_array_equal(np.asarray(image), values)
    with Image.open(tmp_path / "overlays" / "one.png") as image:
        drawn = np.asarray(image)
    assert drawn.shape == prediction.pixels.shape
    assert (drawn != prediction.pixels).any()
    text = (tmp_path / "yolo" / "labels" / "one.txt").read_text()
    assert text.splitlines() == yolo_lines(prediction.instances, HEIGHT, WIDTH)


def test_pycocotools_reads_both_files(prediction, tmp_path):
    collected = CocoFiles(CLASSES)
    collected.add(prediction)
    collected.write(tmp_path)
    annotations = COCO(tmp_path / "coco" / "annotations.json")
    results = annotations.loadRes(str(tmp_path / "coco" / "results.json"))
    assert annotations.loadCats([1, 2])[1]["name"] == "dog"
    for coco in (annotations, results):
        found = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
        np.testing.assert_array_equal([coco.annToMask(a) for a in found], shapes())
        assert [a["category_id"] for a in found] == [2, 1]
        assert [a["score"] for a in found] == pytest.approx([0.9, 0.5])
        assert [a["area"] for a in found] == shapes().sum((1, 2)).tolist()
    document = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert set(document) == {"info", "licenses", "images", "annotations", "categories"}
