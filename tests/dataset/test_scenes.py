import json
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from pipeline.dataset.scenes.files import draw_coco, draw_voc
from pipeline.dataset.scenes.outlines import OUTLINES
from pipeline.dataset.scenes.patterns import CLASSES, SOURCE_CLASSES

IMAGES = 60
VOID = 255


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voc")
    draw_voc(folder, {"train": IMAGES}, seed=3)
    return folder


@pytest.fixture(scope="module")
def coco_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    draw_coco(folder, 12, seed=3)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stems(voc: Path) -> list[str]:
    return (voc / "ImageSets/Main/train.txt").read_text().split()


def mask(voc: Path, kind: str, stem: str) -> np.ndarray:
    return np.asarray(Image.open(voc / f"Segmentation{kind}" / f"{stem}.png"))


def annotation(voc: Path, stem: str) -> ET.Element:
    return ET.parse(voc / "Annotations" / f"{stem}.xml").getroot()


def objects(voc: Path, stem: str) -> list[tuple[str, bool, list[int]]]:
    return [
        (
            o.findtext("name"),
            o.findtext("difficult") == "1",
            [int(n.text) for n in o.find("bndbox")],
        )
        for o in annotation(voc, stem).iter("object")
    ]


def presence(voc: Path, name: str) -> dict[str, int]:
    lines = (voc / "ImageSets/Main" / f"{name}_train.txt").read_text().splitlines()
    return {stem: int(flag) for stem, flag in map(str.split, lines)}


def test_same_seed_gives_same_bytes_and_another_seed_others(tmp_path):
    for parent, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw_voc(tmp_path / parent / "voc", {"train": 2, "val": 1}, seed)
        draw_coco(tmp_path / parent / "coco", 2, seed)
    first, second, other = (contents(tmp_path / parent) for parent in "abc")
    assert first == second
    photographs = [path for path in first if path.suffix == ".jpg"]
    assert len({first[path] for path in photographs}) == len(photographs) == 5
    assert all(first[path] != other[path] for path in photographs)


def test_more_images_change_no_earlier_one(voc, coco_folder, tmp_path):
    draw_voc(tmp_path / voc.name, {"other": 1, "train": 2}, seed=3)
    draw_coco(tmp_path / "coco", 2, seed=3)
    for stem in ("train_000000", "train_000001"):
        few, many = (
            {path: data for path, data in contents(folder).items() if path.stem == stem}
            for folder in (tmp_path / voc.name, voc)
        )
        assert len(few) == 4
        assert few == many
    few, many = (
        json.loads((folder / "instances.json").read_text())["annotations"]
        for folder in (tmp_path / "coco", coco_folder)
    )
    assert few == many[: len(few)]


def test_progress_sees_every_image(tmp_path):
    seen = []

    def record(items, total):
        seen.append(total)
        yield from items

    draw_voc(tmp_path / "voc", {"train": 2, "val": 1}, 0, record)
    draw_coco(tmp_path / "coco", 2, 0, record)
    assert seen == [2, 1, 2]


def test_source_shares_neither_names_nor_outlines_with_target():
    assert len(CLASSES) >= 6
    assert len(SOURCE_CLASSES) >= 8
    assert not set(CLASSES) & set(SOURCE_CLASSES)
    assert not {OUTLINES[c] for c in CLASSES} & {OUTLINES[c] for c in SOURCE_CLASSES}


def test_masks_annotations_and_photographs_agree(voc):
    for stem in stems(voc):
        instances, classes = mask(voc, "Object", stem), mask(voc, "Class", stem)
        height, width = instances.shape
        root = annotation(voc, stem)
        assert root.findtext("filename") == f"{stem}.jpg"
        assert Image.open(voc / "JPEGImages" / f"{stem}.jpg").size == (width, height)
        assert [int(n.text) for n in root.find("size")] == [width, height, 3]

        found = objects(voc, stem)
        assert set(np.unique(instances)) - {0, VOID} == set(range(1, len(found) + 1))
        lookup = np.zeros(256, dtype=np.uint8)
        lookup[1 : len(found) + 1] = [CLASSES.index(name) + 1 for name, *_ in found]
        lookup[VOID] = VOID
        np.testing.assert_array_equal(classes, lookup[instances])


def test_boxes_fit_masks(voc):
    slack = []
    for stem in stems(voc):
        instances = mask(voc, "Object", stem)
        for number, (_, _, (left, top, right, bottom)) in enumerate(objects(voc, stem), 1):
            y, x = np.nonzero(instances == number)
            slack += [
                x.min() + 1 - left,
                y.min() + 1 - top,
                right - x.max() - 1,
                bottom - y.max() - 1,
            ]
            box = instances[top - 1 : bottom, left - 1 : right]
            for side in (box[0], box[-1], box[:, 0], box[:, -1]):
                assert np.isin(side, (number, VOID)).any()
    assert min(slack) == 0
    # The rim of an object in front may cover the last pixels of one behind.
    assert np.mean(np.array(slack) <= 1) > 0.95


def test_void_separates_objects_and_background(voc):
    for stem in stems(voc):
        instances = mask(voc, "Object", stem)
        for one, other in ((instances[1:], instances[:-1]), (instances[:, 1:], instances[:, :-1])):
            assert np.all((one == other) | (one == VOID) | (other == VOID))


def test_lists_agree_with_annotations(voc):
    assert stems(voc) == [f"train_{k:06d}" for k in range(IMAGES)]
    assert (voc / "ImageSets/Segmentation/train.txt").read_text().split() == stems(voc)
    for name in CLASSES:
        flags = presence(voc, name)
        assert list(flags) == stems(voc)
        for stem, flag in flags.items():
            difficult = [d for other, d, _ in objects(voc, stem) if other == name]
            assert flag == (-1 if not difficult else 0 if all(difficult) else 1)


def test_few_objects_are_difficult(voc):
    difficult = [d for stem in stems(voc) for _, d, _ in objects(voc, stem)]
    assert 0 < np.mean(difficult) < 0.15


def test_classes_are_neither_rare_nor_everywhere(voc):
    for name in CLASSES:
        assert 0.1 <= np.mean([flag >= 0 for flag in presence(voc, name).values()]) <= 0.7


def test_some_pairs_of_classes_occur_together_often_and_some_rarely(voc):
    shown = [{name for name, *_ in objects(voc, stem)} for stem in stems(voc)]
    together = Counter(pair for names in shown for pair in combinations(sorted(names), 2))
    often = [("crab", "fish"), ("butterfly", "mushroom"), ("bottle", "key"), ("cactus", "kite")]
    rarely = [("crab", "key"), ("cactus", "crab"), ("cactus", "fish"), ("butterfly", "crab")]
    assert sum(together[p] for p in often) >= 3 * sum(together[p] for p in rarely) > 0


def test_objects_overlap_in_many_images(voc):
    def overlaps(stem):
        boxes = [box for *_, box in objects(voc, stem)]
        instances = mask(voc, "Object", stem)
        return any(
            np.isin(instances[top - 1 : bottom, left - 1 : right], others).any()
            for number, (left, top, right, bottom) in enumerate(boxes, 1)
            for others in [[n for n in range(1, len(boxes) + 1) if n != number]]
        )

    assert np.mean([overlaps(stem) for stem in stems(voc)]) > 0.25


def test_objects_stand_out_from_the_ground(voc):
    def saturation(stem):
        photograph = Image.open(voc / "JPEGImages" / f"{stem}.jpg").convert("HSV")
        return np.asarray(photograph)[..., 1] / 255

    differences = []
    for stem in stems(voc):
        instances, of_pixels = mask(voc, "Object", stem), saturation(stem)
        is_object = (instances > 0) & (instances != VOID)
        differences.append(of_pixels[is_object].mean() - of_pixels[instances == 0].mean())
    assert np.mean(np.array(differences) > 0.2) > 0.9


def test_coco_file_decodes_to_disjoint_masks_of_the_stated_area(coco_folder):
    coco = COCO(coco_folder / "instances.json")
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(SOURCE_CLASSES)
    assert len(coco.getImgIds()) == 12
    for image in coco.loadImgs(coco.getImgIds()):
        photograph = Image.open(coco_folder / "images" / image["file_name"])
        assert photograph.size == (image["width"], image["height"])
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        masks = np.array([coco.annToMask(a) for a in annotations])
        assert masks.shape[1:] == (image["height"], image["width"])
        assert masks.sum(axis=0).max() == 1
        for a, m in zip(annotations, masks, strict=True):
            y, x = np.nonzero(m)
            assert a["iscrowd"] == 0
            assert a["area"] == m.sum() >= 150
            assert a["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
