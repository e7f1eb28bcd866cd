"""What other trainers are given: read back as pycocotools, FiftyOne and Ultralytics read it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from typer.testing import CliRunner

from pipeline.artifacts.coco import CocoAnnotations
from pipeline.artifacts.draws import Draws, DrawWriter
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import masks
from pipeline.common.errors import InputError
from wise import app

HEIGHT, WIDTH, CLASSES = 60, 80, ("cat", "dog")
SUPERVISION = "3 instance masks\nof a test"


def shapes():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    disc = (y - 30) ** 2 + (x - 20) ** 2 < 200
    parts = np.zeros_like(disc)
    parts[5:25, 40:60] = parts[40:55, 50:79] = True
    return np.stack([disc, parts])


# By file: tags, and the classes of the pseudo masks.
PHOTOGRAPHS = {
    "one.jpg": (("cat", "dog"), (0, 1)),
    "deep/one.png": (("dog",), (1,)),
    "missed.jpg": (("cat",), ()),
    "nothing.jpg": ((), ()),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project as the stage sampler leaves it, and its photographs."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "dvc.yaml").touch()
    sampled = CocoAnnotations(CLASSES, "pseudo masks of a test")
    photographs = []
    for number, (file, (tags, labels)) in enumerate(PHOTOGRAPHS.items()):
        path = tmp_path / "photographs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(path)
        sampled.add(file, HEIGHT, WIDTH, masks.encode(shapes()[list(labels)]), np.array(labels))
        photographs.append(
            Photograph(id=file, file=file, height=HEIGHT, width=WIDTH, sha256="", tags=tags)
        )
    sampled.write(tmp_path / "data" / "sampler" / "pseudo_masks.json")
    split = Split(root="photographs", classes=CLASSES, photographs=tuple(photographs))
    split.write(tmp_path / "data" / "dataset" / "train.json")
    with ProposalWriter(tmp_path / "data" / "proposals" / "train", "test", SUPERVISION, {}):
        pass
    monkeypatch.chdir(tmp_path / "stages")
    return tmp_path


def export(out, layout):
    typed = ["export", "pseudo-masks", "--out", str(out), "--format", layout]
    done = CliRunner().invoke(app, typed)
    if done.exception is not None:
        raise done.exception
    assert done.stdout == (
        f"{out}: 3 pseudo masks on 3 photographs; 1 with tags but without a pseudo mask left out\n"
    )


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def test_coco_in_the_layout_of_fiftyone(project, tmp_path):
    export(tmp_path / "out", "coco")
    coco = COCO(tmp_path / "out" / "labels.json")
    assert [category["name"] for category in coco.loadCats([1, 2])] == list(CLASSES)
    assert coco.dataset["info"]["supervision"] == {
        "photographs": "image-level tags",
        "proposals": SUPERVISION,
    }
    named = {image["file_name"]: image for image in coco.dataset["images"]}
    assert list(named) == ["one.jpg", "deep/one.png", "nothing.jpg"]
    for file, image in named.items():
        original = project / "photographs" / file
        assert (tmp_path / "out" / "data" / file).read_bytes() == original.read_bytes()
        assert (image["height"], image["width"]) == (HEIGHT, WIDTH)
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert tuple(a["category_id"] - 1 for a in found) == PHOTOGRAPHS[file][1]
        for annotation in found:
            mask = shapes()[annotation["category_id"] - 1]
            assert all(len(polygon) >= 6 for polygon in annotation["segmentation"])
            assert iou(coco.annToMask(annotation) > 0, mask) > 0.95
            assert annotation["area"] == mask.sum()
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            extent = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == extent
            assert annotation["iscrowd"] == 0


def test_yolo_as_ultralytics_finds_it(project, tmp_path):
    export(tmp_path / "out", "yolo")
    described = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert described["names"] == dict(enumerate(CLASSES))
    images = sorted((tmp_path / "out" / described["train"]).glob("**/*.*"))
    assert (tmp_path / "out" / described["val"]).is_dir()
    assert [path.name for path in images] == ["nothing.jpg", "one-1.jpg", "one-2.png"]
    for path in images:
        # Ultralytics exchanges the last /images/ of a path, and its suffix.
        labels = Path("/labels/".join(str(path).rsplit("/images/", 1))).with_suffix(".txt")
        with Image.open(path) as image:
            (file,) = [f for n, f in enumerate(PHOTOGRAPHS) if n == image.getpixel((0, 0))[0]]
        lines = [line.split() for line in labels.read_text().splitlines()]
        assert [int(label) for label, *_ in lines] == list(PHOTOGRAPHS[file][1])
        for label, *numbers in lines:
            # Four times as large, pixel centres are hit.
            corners = np.array(numbers, float).reshape(-1, 2) * [4 * WIDTH, 4 * HEIGHT] - 0.5
            drawn = Image.new("1", (4 * WIDTH, 4 * HEIGHT))
            ImageDraw.Draw(drawn).polygon([tuple(corner) for corner in corners], fill=1)
            assert iou(np.asarray(drawn)[2::4, 2::4], shapes()[int(label)]) > 0.95


def test_pre_annotations_have_what_is_missed_and_how_draws_agree(project, tmp_path):
    shutil.rmtree(project / "data" / "proposals")
    proposals = Proposals(masks.encode(shapes()), np.array([0.9, 0.8], np.float32))
    with (
        ProposalWriter(project / "data/proposals/train", "test", SUPERVISION, {}) as proposed,
        DrawWriter(project / "data/sampler/train", CLASSES, {}) as drawn,
    ):
        for file, (_, labels) in PHOTOGRAPHS.items():
            count = len(labels)
            draws = np.repeat(np.array(labels, np.int32).reshape(-1, 1), 4, axis=1)
            draws[:, 3] = 0  # once in four epochs the disc, far away from the other shape
            proposed.add(file, HEIGHT, WIDTH, proposals)
            candidates = [np.empty(0, np.int32)] * count, [np.empty(0, np.float32)] * count
            label = np.array(labels, np.int16)
            of_image = Draws(label, *candidates, draws, np.ones(count, bool))
            drawn.add(file, HEIGHT, WIDTH, of_image)
    out = tmp_path / "out"
    typed = ["export", "pseudo-masks", "--out", str(out), "--format", "pre-annotations"]
    done = CliRunner().invoke(app, typed)
    assert done.stdout.startswith(f"{out}: 3 pseudo masks on 4 photographs; polygons have a median")
    for file in PHOTOGRAPHS:
        original = project / "photographs" / file
        assert (out / "data" / file).read_bytes() == original.read_bytes()
    annotations = json.loads((out / "labels.json").read_text())["annotations"]
    assert [(a["image_id"], a["category_id"], a["score"]) for a in annotations] == [
        (1, 1, 1.0),
        (1, 2, 0.75),
        (2, 2, 0.75),
    ]
    assert (out / "order.csv").read_text().splitlines()[1:] == [
        '"missed.jpg",0.0,0',
        '"deep/one.png",0.75,1',
        '"one.jpg",0.875,2',
        '"nothing.jpg",1.0,0',
    ]


def replace_document(project, content):
    path = project / "data" / "sampler" / "pseudo_masks.json"
    path.write_text(content) if content is not None else path.unlink()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing; run dvc repro sampler"),
        ("{", "not JSON"),
        ("[]", "not written by the stage sampler"),
        (
            json.dumps({"info": {}, "images": [{"id": 1, "file_name": "x"}], "annotations": []}),
            "belongs to other photographs",
        ),
    ],
)
def test_what_is_no_sampled_file_is_named(project, tmp_path, content, message):
    replace_document(project, content)
    with pytest.raises(InputError, match=rf"pseudo_masks\.json: {message}"):
        export(tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists()


def test_what_lies_there_already_is_not_mixed_in(project, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").touch()
    with pytest.raises(InputError, match="out: not empty"):
        export(tmp_path / "out", "yolo")


def test_a_photograph_that_is_gone_is_named(project, tmp_path):
    (project / "photographs" / "one.jpg").unlink()
    with pytest.raises(InputError, match=r"one\.jpg: no such image"):
        export(tmp_path / "out", "yolo")
