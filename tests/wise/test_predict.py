"""`wise predict`, as a user would type it, on networks that have learnt nothing."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from pipeline.common.errors import InputError
from pipeline.proposals.methods import proposer_of
from pipeline.proposals.parameters import ProposalsParameters
from stages.common.parameters import read_parameters
from tests.support.tiny import CLASSES, write_project
from wise import app

FORMATS = ("overlay", "coco", "labels", "yolo", "pre-annotations")
HEIGHT, WIDTH = 60, 80


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "project"
    folder.mkdir()
    write_project(folder, 10)
    return folder


@pytest.fixture
def holiday(project, tmp_path, monkeypatch):
    """Two photographs, and one in a subfolder that has the name of another; not in the project."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "deep/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
        noise.resize((WIDTH, HEIGHT)).save(tmp_path / name)
    monkeypatch.chdir(project / "stages")
    # Without the seconds that worker processes take to start.
    here = importlib.import_module("wise.predict")
    monkeypatch.setattr(here, "ordered_map", lambda call, items, workers: map(call, items))
    return tmp_path


def predict(*words, formats=("coco",), score=0.0, status=0):
    options = [word for name in formats for word in ("--format", name)]
    typed = ["predict", *map(str, words), *options, "--score", str(score)]
    done = CliRunner().invoke(app, typed)
    if isinstance(done.exception, InputError):
        raise done.exception
    assert done.exit_code == status, done.output
    return done


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_format_holds_the_same_instances(holiday):
    out = holiday / "out"
    done = predict(holiday, holiday / "deep", "--out", out, "--json", formats=FORMATS)
    counts = json.loads(done.stdout)
    assert (counts["photographs"], counts["unreadable"]) == (3, [])
    assert files(out) == sorted(
        [
            *(f"overlays/{name}.png" for name in ("a-1", "a-2", "b")),
            *(f"label_maps/classes/{name}.png" for name in ("a-1", "a-2", "b")),
            *(f"label_maps/instances/{name}.png" for name in ("a-1", "a-2", "b")),
            *(f"yolo/labels/{name}.txt" for name in ("a-1", "a-2", "b")),
            *("label_maps/classes.json", "yolo/classes.txt"),
            *("coco/annotations.json", "coco/results.json"),
            *("pre-annotations/labels.json", "pre-annotations/order.csv"),
            *("pre-annotations/cvat_labels.json", "pre-annotations/label_studio.json"),
            "pre-annotations/label_studio.xml",
        ]
    )
    annotations = COCO(out / "coco" / "annotations.json")
    results = annotations.loadRes(str(out / "coco" / "results.json"))
    assert len(results.anns) == len(annotations.anns) == counts["instances"] > 0
    for number, (file, name) in enumerate(
        zip(("a.png", "b.jpg", "deep/a.png"), ("a-1", "b", "a-2"), strict=True), 1
    ):
        assert annotations.imgs[number]["file_name"] == str(holiday / file)
        found = annotations.loadAnns(annotations.getAnnIds(imgIds=[number]))
        shapes = np.array([annotations.annToMask(annotation) for annotation in found], bool)
        with Image.open(out / "label_maps" / "instances" / f"{name}.png") as image:
            numbers = np.asarray(image)
        np.testing.assert_array_equal(numbers > 0, shapes.any(0))
        lines = (out / "yolo" / "labels" / f"{name}.txt").read_text().splitlines()
        of_yolo = {int(line.split()[0]) + 1 for line in lines}
        assert of_yolo == {annotation["category_id"] for annotation in found}
    assert (out / "yolo" / "classes.txt").read_text().split() == list(CLASSES)
    corrected = COCO(out / "pre-annotations" / "labels.json")
    assert [image["file_name"] for image in corrected.imgs.values()] == [
        "a.png",
        "b.jpg",
        "deep/a.png",
    ]
    exact = [annotation["area"] for annotation in annotations.anns.values()]
    assert [annotation["area"] for annotation in corrected.anns.values()] == exact


def test_masks_are_replaced_by_proposals_where_it_is_asked_for(holiday, project, monkeypatch):
    monkeypatch.chdir(project)
    proposer = proposer_of(read_parameters(ProposalsParameters, "proposals"))
    proposed = {mask["counts"].decode() for mask in proposer(holiday / "b.jpg").masks}
    codes = {}
    for option in ("--refine", "--no-refine"):
        predict(holiday / "b.jpg", "--out", holiday / option, option)
        results = json.loads((holiday / option / "coco" / "results.json").read_text())
        codes[option] = {result["segmentation"]["counts"] for result in results}
    assert codes["--refine"] <= proposed
    assert not codes["--no-refine"] & proposed


def test_the_projects_own_weights_are_known_by_any_path(holiday, project, monkeypatch):
    """The classifier votes on which classes there are, however the file is spelt."""
    file = project / "params.yaml"
    before = file.read_text()
    parameters = yaml.safe_load(before)
    parameters["predictions"]["presence_weight"] = 1.0
    file.write_text(yaml.safe_dump(parameters, sort_keys=False))
    monkeypatch.chdir(project / "data")
    given = ([], ["--weights", "mask_rcnn/weights.safetensors"])
    for number, words in enumerate(given):
        predict(holiday / "b.jpg", "--out", holiday / str(number), *words)
    file.write_text(before)
    results = [(holiday / str(n) / "coco" / "results.json").read_text() for n in (0, 1)]
    assert results[0] == results[1]
    predict(holiday / "b.jpg", "--out", holiday / "alone")
    assert (holiday / "alone" / "coco" / "results.json").read_text() != results[0]


def test_a_broken_photograph_does_not_keep_the_others(holiday):
    (holiday / "aa.png").write_bytes((holiday / "a.png").read_bytes()[:99])
    done = predict(holiday, "--out", holiday / "out", "--json", status=1)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("wise: ")]
    assert line.startswith(f"wise: {holiday / 'aa.png'}: broken image")
    counts = json.loads(done.stdout)
    assert counts["photographs"] == 2
    assert counts["unreadable"] == [str(holiday / "aa.png")]
    images = json.loads((holiday / "out" / "coco" / "annotations.json").read_text())["images"]
    assert [Path(image["file_name"]).name for image in images] == ["a.png", "b.jpg"]


def test_nothing_is_found_above_every_score(holiday):
    out = holiday / "out"
    done = predict(holiday / "*.jpg", "--out", out, formats=("coco", "yolo"), score=0.999)
    assert done.stdout == f"{out}: 0 instances in 1 photographs\n"
    assert json.loads((out / "coco" / "results.json").read_text()) == []
    assert (out / "yolo" / "labels" / "b.txt").read_text() == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere/*.jpg"], r"nowhere/\*\.jpg: no photograph here"),
        (["a.png", "--weights", "absent.safetensors"], r"absent\.safetensors: missing"),
        (["a.png", "--weights", "a.png"], r"a\.png: not the weights of a MaskRcnnDescription"),
    ],
)
def test_what_cannot_be_used_is_said(holiday, monkeypatch, words, message):
    (holiday / "stages").mkdir()
    (holiday / "dvc.yaml").touch()
    monkeypatch.chdir(holiday)
    with pytest.raises(InputError, match=message):
        predict(*words, "--out", "out")
    assert not (holiday / "out").exists()
