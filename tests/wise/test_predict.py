"""`wise predict`, as a user would type it, on networks that have learnt nothing."""

import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools.coco import COCO
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import wise.detector
from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.compact import expand, write_compact
from pipeline.artifacts.proposals import ProposalWriter
from pipeline.common.errors import InputError
from pipeline.proposals.methods import proposer_of
from pipeline.proposals.parameters import ProposalsParameters
from stages.common.parameters import read_parameters
from stages.common.shelf import Shelf
from tests.support.tiny import CLASSES, write_project
from wise import app, box
from wise.detector import BOX

FORMATS = ("overlay", "coco", "labels", "yolo", "pre-annotations")
HEIGHT, WIDTH = 60, 80
DATA = "data/scenes/VOCdevkit/VOC2012"  # the folder of photographs in the parameters


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "project"
    folder.mkdir()
    write_project(folder, 10)
    with changed_parameters(folder) as parameters:
        parameters["scenes"]["train"] = 0  # its photographs are not drawn
        parameters["predictions"]["presence_weight"] = 0.5
        parameters["calibration"]["enabled"] = True
    shelf = Shelf(folder)
    round_weights(shelf.detector)
    round_weights(shelf.classifier)
    for stage, powers in (("predictions", (0.5, 1.5)), ("refinement", (0.6, 1.2))):
        calibration = Calibration(classes=CLASSES, max_overlap=1, expected=(2, 3), powers=powers)
        calibration.write(shelf.calibrations[stage].path)
    with ProposalWriter(shelf.proposals["train"].path, "sharpmask", "masks of a test", {}):
        pass
    return folder


def round_weights(file):
    """Round weights so that they lose nothing in the compact form."""
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    write_compact(file, file)
    state = {name: values.to(torch.float32) for name, values in expand(load_file(file)).items()}
    save_file(state, file, metadata)


@contextmanager
def changed_parameters(folder):
    """Edit the parameters of a project."""
    file = folder / "params.yaml"
    parameters = yaml.safe_load(file.read_text())
    yield parameters
    file.write_text(yaml.safe_dump(parameters, sort_keys=False))


@pytest.fixture
def holiday(project, tmp_path, monkeypatch):
    """Two photographs, and one in a subfolder that has the name of another; not in the project."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "deep/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
        noise.resize((WIDTH, HEIGHT)).save(tmp_path / name)
    monkeypatch.chdir(project / "stages")
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
    monkeypatch.chdir(project / "data")
    given = ([], ["--weights", "mask_rcnn/weights.safetensors"], ["--weights", ".."])
    results = [results_of(holiday, number, *words) for number, words in enumerate(given)]
    assert results[0] == results[1] == results[2]
    copy = holiday / "copy.safetensors"  # which the classifier knows nothing of
    copy.write_bytes(Path("mask_rcnn/weights.safetensors").read_bytes())
    assert results_of(holiday, "alone", "--weights", copy) != results[0]


def results_of(holiday, name, *words):
    """What is found in a photograph."""
    predict(holiday / "b.jpg", "--out", holiday / str(name), *words)
    return json.loads((holiday / str(name) / "coco" / "results.json").read_text())


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
        (["a.png", "--weights", "absent"], "absent: missing; detectors that come with wise: none"),
        (["a.png", "--weights", "a.png"], r"a\.png: not a weights file, or broken"),
        (["a.png", "--weights", "deep"], "deep: not the folder of a project"),
        (["a.png", "--weights", "rcnn"], "rcnn: a Mask R-CNN without settings; use it inside"),
        (
            ["a.png", "--weights", "prm"],
            "prm: not the weights of a MaskRcnn, or",
        ),
        (["a.png"], r"box: no detector here; choose one by --weights"),
    ],
)
def test_what_cannot_be_used_is_said(holiday, project, monkeypatch, words, message):
    (holiday / "box").mkdir()
    monkeypatch.setattr("wise.detector.BOX", holiday / "box")
    for name, stage in (("rcnn", "mask_rcnn"), ("prm", "prm")):
        (holiday / name).write_bytes((project / f"data/{stage}/weights.safetensors").read_bytes())
    monkeypatch.chdir(holiday)
    with pytest.raises(InputError, match=message):
        predict(*words, "--out", "out")
    assert not (holiday / "out").exists()


@pytest.fixture
def boxed(project, tmp_path, monkeypatch):
    """A detector in a box of its own, and the folder of the box."""
    monkeypatch.chdir(project)
    done = CliRunner().invoke(
        box.app, ["detector", "pets", "--preset", "tiny", "--out", str(tmp_path / "box")]
    )
    assert done.exit_code == 0, done.output
    monkeypatch.setattr("wise.detector.BOX", tmp_path / "box")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "box"


def test_the_boxed_detector_finds_what_the_project_finds(holiday, project, boxed):
    """With the classifier, the calibration and the refinement of the project."""
    (boxed / "sharpmask.safetensors").write_bytes(Shelf(project).sharpmask.read_bytes())
    for option in ("--refine", "--no-refine"):
        found = results_of(holiday, f"boxed{option}", "--weights", "pets", option)
        wanted = results_of(holiday, f"own{option}", "--weights", project, option)
        assert found == wanted
        assert found


def test_the_project_comes_first_unless_its_photographs_are_drawn(holiday, project, boxed):
    assert "detector pets: " in predict(holiday / "b.jpg", "--out", "out").stderr
    os.chdir(project)
    (line,) = predict(holiday / "b.jpg", "--out", holiday / "own").stderr.splitlines()[:1]
    assert line == f"detector {project}: cat, dog; trained on the tags of train in {DATA}"
    with changed_parameters(project) as parameters:
        parameters["scenes"]["train"] = 180
    try:
        assert "detector pets: " in predict(holiday / "b.jpg", "--out", holiday / "box").stderr
    finally:
        with changed_parameters(project) as parameters:
            parameters["scenes"]["train"] = 0


def test_of_several_detectors_the_one_with_the_most_classes_is_used(holiday, boxed):
    (boxed / "sharpmask.safetensors").write_bytes((BOX / "sharpmask.safetensors").read_bytes())
    save_with(boxed / "pets.safetensors", boxed / "zoo.safetensors", ["a", "b", "c"])
    assert [file.stem for file in wise.detector.boxed()] == ["pets", "zoo"]
    assert wise.load().name == "zoo"
    with pytest.raises(InputError, match=r"cats: missing; .* with wise: pets, zoo"):
        wise.load("cats")


def save_with(source, target, classes):
    """Copy a boxed detector, with other classes in its description."""
    with safe_open(source, "pt") as opened:
        described = json.loads(opened.metadata()["description"])
    for part in ("detector", "classifier", "calibration", "refined_calibration"):
        described[part]["classes"] = classes
    for part in ("calibration", "refined_calibration"):
        described[part]["powers"] = [1] * len(classes)
    save_file(load_file(source), target, {"description": json.dumps(described)})


def test_what_a_detector_says_of_itself_is_one_line(holiday, boxed):
    save_with(boxed / "pets.safetensors", boxed / "zoo.safetensors", ["cat\n\x1b[2J", "dog"])
    words = ("--out", "out", "--weights", "zoo")
    (line,) = predict(holiday / "b.jpg", *words, score=0.9).stderr.splitlines()[:1]
    assert line.startswith(r"detector zoo: cat\n\x1b[2J, dog; trained on the tags of 9 photographs")


def test_three_lines_of_python(holiday, boxed):
    detector = wise.load("pets", min_score=0.0)
    found = detector(holiday / "b.jpg")
    results = results_of(holiday, "out", "--weights", "pets")
    assert found.masks.shape == (len(results), HEIGHT, WIDTH)
    np.testing.assert_allclose(found.scores, [result["score"] for result in results], atol=1e-3)
    assert [CLASSES.index(name) + 1 for name in found.labels] == [
        result["category_id"] for result in results
    ]
    assert detector.trained_on == (
        "the tags of 9 photographs (voc, train), with proposals by sharpmask: masks of a test"
    )


def test_a_broken_detector_is_one_line_and_not_the_photographs_fault(holiday, boxed):
    """Before, every photograph was said to be unreadable."""
    state = load_file(boxed / "pets.safetensors")
    state["detector.rpn.head.cls_logits.bias"][0] = torch.nan
    with safe_open(boxed / "pets.safetensors", "pt") as opened:
        metadata = opened.metadata()
    save_file(state, boxed / "nan.safetensors", metadata)
    with pytest.raises(InputError, match=r"nan\.safetensors: .* 1 of \d+ numbers are not finite"):
        predict(holiday, "--out", "out", "--weights", boxed / "nan.safetensors")


def test_worker_processes_find_the_same(holiday, boxed, monkeypatch):
    monkeypatch.setenv("WISE_WORKERS", "2")
    found = []
    for number, many in enumerate((3, 1)):
        monkeypatch.setattr("wise.predict.MANY", many)
        predict(holiday / "*.*g", "--out", holiday / str(number), "--weights", "pets")
        found.append((holiday / str(number) / "coco" / "results.json").read_text())
    assert found[0] == found[1]
