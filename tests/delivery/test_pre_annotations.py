"""Masks for annotation tools: what is written, and read back by the tools' own importers.

The importers are large and are not requirements of the tests. docs/correct-masks.md says how to
install them, and what they read.
"""

import csv
import json
import shutil
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from pipeline.artifacts.instances import Instances
from pipeline.common import files, masks
from pipeline.delivery.formats import Prediction
from pipeline.delivery.pre_annotations import PreAnnotationFiles, PreAnnotations, sureness

HEIGHT, WIDTH = 120, 160
CLASSES = ("cat", 'dog & "friends"', "猫")
# By file: classes and scores of the masks below, and the number of tags without a mask.
PHOTOGRAPHS = {
    "sure.png": ((0, 1, 2), (0.9, 0.8, 0.7), 0),
    "deep/#1 ä.png": ((2, 1), (0.6, 0.4), 0),
    "=nothing.png": ((), (), 0),
    "missed.png": ((), (), 1),
}
ORDER = ["missed.png", "deep/#1 ä.png", "sure.png", "=nothing.png"]


def shapes():
    """A disc; two rectangles and a speck; a ring."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(y - 60, x - 50)
    parts = np.zeros((HEIGHT, WIDTH), bool)
    parts[10:50, 100:140] = parts[80:110, 110:159] = parts[70, 5] = True
    return np.stack([distance < 40, parts, (distance < 45) & (distance > 15)])


def filled():
    """What is left of the shapes in polygons: no speck, no hole."""
    disc, parts, _ = shapes()
    parts[70, 5] = False
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([disc, parts, np.hypot(y - 60, x - 50) < 45])


def instances(file):
    labels, scores, _ = PHOTOGRAPHS[file]
    found = masks.encode(shapes()[list(labels)])
    return Instances(found, np.array(labels, np.int16), np.array(scores, np.float32))


@pytest.fixture
def written(tmp_path):
    folder = tmp_path / "photo graphs" / "data"
    collected = PreAnnotations(CLASSES, folder, "a test")
    for number, (file, (_, _, missing)) in enumerate(PHOTOGRAPHS.items()):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(folder / file)
        collected.add(file, HEIGHT, WIDTH, instances(file), missing)
    collected.write(folder.parent)
    return folder.parent


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def drawn(polygon):
    """Draw a polygon with another library, four times as large to hit pixel centres."""
    image = Image.new("1", (4 * WIDTH, 4 * HEIGHT))
    ImageDraw.Draw(image).polygon([(4 * x - 0.5, 4 * y - 0.5) for x, y in polygon], fill=1)
    return np.asarray(image)[2::4, 2::4]


def tasks(folder):
    """The tasks of Label Studio by the file of their photograph, which exists."""
    of_file = {}
    for task in json.loads((folder / "label_studio.json").read_text()):
        address = urlsplit(task["data"]["image"])
        (place,) = parse_qs(address.query)["d"]
        assert address.path == "/data/local-files/"
        # The document root of the docs.
        assert (folder / place).is_file()
        of_file[str(Path(place).relative_to("data"))] = task
    return of_file


def test_coco_polygons_are_the_masks_without_holes_and_specks(written):
    coco = COCO(written / "labels.json")
    assert [image["file_name"] for image in coco.dataset["images"]] == list(PHOTOGRAPHS)
    for image in coco.dataset["images"]:
        labels, scores, _ = PHOTOGRAPHS[image["file_name"]]
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert [a["category_id"] - 1 for a in found] == list(labels)
        assert [a["score"] for a in found] == pytest.approx(scores)
        for label, annotation in zip(labels, found, strict=True):
            assert [len(p) // 2 > 2 for p in annotation["segmentation"]] == [True] * (
                2 if label == 1 else 1
            )
            assert sum(map(len, annotation["segmentation"])) < 2 * 60  # few corners to drag
            assert iou(coco.annToMask(annotation) > 0, filled()[label]) > 0.95
            assert annotation["area"] == shapes()[label].sum()
    # That of the disc. The ring, whose hole is filled, has less than 0.9.
    assert 0.95 < coco.dataset["info"]["median_iou_of_polygons"] < 1


def test_label_studio_has_one_polygon_for_each_object(written):
    of_file = tasks(written)
    assert list(of_file) == ORDER
    for file, (labels, scores, _) in PHOTOGRAPHS.items():
        (prediction,) = of_file[file]["predictions"]
        names = [region["value"]["polygonlabels"] for region in prediction["result"]]
        assert names == [[CLASSES[label]] for label in labels]
        assert [region["score"] for region in prediction["result"]] == pytest.approx(scores)
        for label, region in zip(labels, prediction["result"], strict=True):
            assert (region["original_width"], region["original_height"]) == (WIDTH, HEIGHT)
            corners = np.array(region["value"]["points"]) * [WIDTH / 100, HEIGHT / 100]
            assert iou(drawn(corners), filled()[label]) > 0.94


def test_the_labels_of_each_tool_are_the_classes(written):
    control = ElementTree.fromstring((written / "label_studio.xml").read_text()).find(
        "PolygonLabels"
    )
    assert [label.get("value") for label in control] == list(CLASSES)
    of_cvat = json.loads((written / "cvat_labels.json").read_text())
    assert [label["name"] for label in of_cvat] == list(CLASSES)


def test_what_is_least_sure_comes_first(written):
    assert (written / "order.csv").read_text().splitlines() == [
        '"image","score","masks"',
        '"missed.png",0.0,0',
        '"deep/#1 ä.png",0.5,2',
        '"sure.png",0.8,3',
        '"./=nothing.png",1.0,0',
    ]
    scores = [task["predictions"][0]["score"] for task in tasks(written).values()]
    assert scores == pytest.approx([0, 0.5, 0.8, 1])


@pytest.mark.parametrize("name", ["a\rb.png", "a\n=1.png", '"=1,.png', "\r=1.png", "\t=1.png"])
def test_a_row_is_a_photograph_whatever_its_name(tmp_path, name):
    collected = PreAnnotations(CLASSES, tmp_path, "a test")
    collected.add(name, HEIGHT, WIDTH, Instances.none())
    collected.write(tmp_path)
    with (tmp_path / "order.csv").open(newline="") as file:
        _, (read, *_) = csv.reader(file)
    assert read.removeprefix("./") == name
    assert not files.is_formula(read)


def test_a_class_without_a_mask_counts_as_not_sure():
    score = np.array([0.9, 0.5], np.float32)
    assert sureness(score, 0) == pytest.approx(0.7)
    assert sureness(score, 2) == pytest.approx(0.35)


def test_a_mask_of_a_pixel_is_a_polygon(tmp_path):
    pixel = np.zeros((1, HEIGHT, WIDTH), bool)
    pixel[0, 5, 7] = True
    one = Instances(masks.encode(pixel), np.zeros(1, np.int16), np.ones(1, np.float32))
    collected = PreAnnotations(CLASSES, tmp_path, "a test")
    collected.add("a.png", HEIGHT, WIDTH, one)
    collected.write(tmp_path)
    (annotation,) = json.loads((tmp_path / "labels.json").read_text())["annotations"]
    assert len(annotation["segmentation"][0]) >= 6


def test_predictions_are_named_from_their_common_folder(tmp_path, monkeypatch):
    for folder in ("holiday/deep", "out"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "holiday")
    paths = [tmp_path / "holiday" / "a.png", Path("deep/a.png"), Path("../holiday/b.png")]
    collected = PreAnnotationFiles(CLASSES, paths)
    for path in paths:
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        collected.add(Prediction(path, path.stem, pixels, instances("sure.png")))
    collected.write(tmp_path / "out")
    names = ["a.png", "deep/a.png", "b.png"]
    out = tmp_path / "out" / "pre-annotations"
    images = json.loads((out / "labels.json").read_text())["images"]
    assert [image["file_name"] for image in images] == names
    addresses = [
        task["data"]["image"] for task in json.loads((out / "label_studio.json").read_text())
    ]
    assert sorted(addresses) == sorted(f"/data/local-files/?d=holiday/{name}" for name in names)
    assert {unquote(address) for address in addresses} == set(addresses)


# What the tools' own importers make of it.


def test_datumaro_imports_it_as_cvat_does(written, tmp_path):
    datumaro = pytest.importorskip("datumaro", reason="pip install datumaro")
    # CVAT's edition of datumaro takes the file wherever it is; others need these folders.
    annotations = tmp_path / "annotations" / "instances_default.json"
    annotations.parent.mkdir()
    shutil.copy(written / "labels.json", annotations)
    shutil.copytree(written / "data", tmp_path / "images")
    dataset = datumaro.Dataset.import_from(str(annotations), "coco_instances")
    names = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    items = {item.id: item.annotations for item in dataset}
    assert set(items) == {file.removesuffix(".png") for file in PHOTOGRAPHS}
    for file, (labels, _, _) in PHOTOGRAPHS.items():
        polygon_type = datumaro.AnnotationType.polygon  # newer versions add boxes
        found = [a for a in items[file.removesuffix(".png")] if a.type == polygon_type]
        # The polygons of an instance are a group.
        groups = {}
        for polygon in sorted(found, key=lambda polygon: polygon.group):
            groups.setdefault((polygon.group, names[polygon.label]), []).append(polygon.points)
        assert [name for _, name in groups] == [CLASSES[label] for label in labels]
        for label, outlines in zip(labels, groups.values(), strict=True):
            shape = np.any([drawn(np.reshape(p, (-1, 2))) for p in outlines], axis=0)
            assert iou(shape, filled()[label]) > 0.94


def test_the_converter_of_label_studio_reads_it(written, tmp_path):
    converter = pytest.importorskip(
        "label_studio_sdk.converter", reason="pip install label-studio-sdk"
    )
    # It converts what people have accepted: an annotation is a prediction that was accepted.
    accepted = json.loads((written / "label_studio.json").read_text())
    for number, task in enumerate(accepted):
        (prediction,) = task.pop("predictions")
        task |= {"id": number, "annotations": [{"id": number, "result": prediction["result"]}]}
    (tmp_path / "accepted.json").write_text(json.dumps(accepted))
    made = converter.Converter(
        str(written / "label_studio.xml"), str(tmp_path), download_resources=False
    )
    made.convert_to_coco(str(tmp_path / "accepted.json"), str(tmp_path / "out"), is_dir=False)
    coco = COCO(tmp_path / "out" / "result.json")
    names = {category["id"]: category["name"] for category in coco.dataset["categories"]}
    assert set(names.values()) == set(CLASSES)
    for image in coco.dataset["images"]:
        (file,) = [f for f in PHOTOGRAPHS if unquote(image["file_name"]).endswith(f)]
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        labels = PHOTOGRAPHS[file][0]
        assert [names[a["category_id"]] for a in found] == [CLASSES[label] for label in labels]
        for label, annotation in zip(labels, found, strict=True):
            assert iou(coco.annToMask(annotation) > 0, filled()[label]) > 0.94


def test_fiftyone_imports_it(written, monkeypatch):
    monkeypatch.setenv("FIFTYONE_DISABLE_SERVICES", "1")  # its importer needs no database
    coco = pytest.importorskip("fiftyone.utils.coco", reason="pip install fiftyone")
    importer = coco.COCODetectionDatasetImporter(
        data_path=str(written / "data"),
        labels_path=str(written / "labels.json"),
        label_types=["segmentations"],
        use_polylines=True,
    )
    with importer:
        imported = {path: found for path, _, found in importer}
    assert set(imported) == {str(written / "data" / file) for file in PHOTOGRAPHS}
    for file, (labels, scores, _) in PHOTOGRAPHS.items():
        of_file = imported[str(written / "data" / file)]
        found = of_file.polylines if of_file else []
        assert [line.label for line in found] == [CLASSES[label] for label in labels]
        assert [line.confidence for line in found] == pytest.approx(scores)
        for label, line in zip(labels, found, strict=True):
            outlines = [np.array(points) * [WIDTH, HEIGHT] for points in line.points]
            shape = np.any([drawn(points) for points in outlines], axis=0)
            assert iou(shape, filled()[label]) > 0.94
