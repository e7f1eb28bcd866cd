"""A detector in one file: it detects what its parts detect, and nothing else is taken for one."""

import json

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.weights import write_weights
from pipeline.classifier.network import Prm
from pipeline.common.errors import InputError
from pipeline.delivery.boxed import box_version, read_boxed
from pipeline.detectors.predictions import Predictor
from tests.support.boxed import CALIBRATION, SETTINGS, description, write_box, write_parts
from tests.support.tiny import CLASSES, PRM

IMAGE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    write_parts(folder)
    return folder


@pytest.fixture
def box(parts, tmp_path):
    return write_box(parts, tmp_path / "box.safetensors", description())


def instances(detector):
    return detector.kept(detector.detect(IMAGE))


def changed(box, **changes):
    """Change keys of the description in the file."""
    with safetensors.safe_open(box, "pt") as opened:
        described = json.loads(opened.metadata()["description"])
    described.update(changes)
    save_file(load_file(box), box, {"description": json.dumps(described)})


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_it_detects_what_its_parts_detect(parts, tmp_path, weight):
    settings = SETTINGS.model_copy(update={"presence_weight": weight})
    changes = {"predictions": settings, "classifier": PRM if weight else None}
    box = write_box(parts, tmp_path / "box.safetensors", description(**changes))
    found = instances(read_boxed(box, "box", min_score=0.1))
    predictor = Predictor(
        parts / "detector.safetensors", settings, parts / "classifier.safetensors"
    )
    wanted = CALIBRATION.apply(predictor.detect(IMAGE))
    wanted = wanted.take(np.flatnonzero(wanted.score >= 0.1))
    assert len(found.masks) > 0
    assert found.masks == wanted.masks
    np.testing.assert_array_equal(found.label, wanted.label)
    np.testing.assert_array_equal(found.score, wanted.score)


def test_it_is_smaller_than_its_parts_and_says_what_it_is(parts, box):
    size = sum(file.stat().st_size for file in parts.iterdir())
    assert box.stat().st_size < 0.6 * size
    assert box_version(box) == 1
    assert box_version(parts / "detector.safetensors") == 0
    detector = read_boxed(box, "box", 0.5)
    assert (detector.classes, detector.trained_on) == (CLASSES, "nothing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxed": 2}, r"or of another version \(boxed: Input should be 1\)"),
        ({"predictions": {}}, r"or of another version \(predictions\.min_score: Field required\)"),
        ({"classifier": {**PRM.model_dump(), "classes": ["cow"]}}, "classifier have other classes"),
        ({"calibration": Calibration.off(("cow",)).model_dump()}, "calibration have other classes"),
        ({"calibration": {**CALIBRATION.model_dump(), "powers": [1]}}, "1 powers for 2 classes"),
        (
            {"calibration": {**CALIBRATION.model_dump(), "powers": [1, "inf"]}},
            r"calibration\.powers\.1: Input should be a finite number",
        ),
    ],
)
def test_another_version_and_other_classes(box, changes, message):
    changed(box, **changes)
    with pytest.raises(InputError, match=rf"^[^\n]*box\.safetensors: [^\n]*{message}") as refusal:
        read_boxed(box, "box", 0.5)
    assert "\n" not in str(refusal.value)


def test_weights_of_another_network(parts):
    with pytest.raises(InputError, match=r"detector\.safetensors: not the weights of a Boxed"):
        read_boxed(parts / "detector.safetensors", "box", 0.5)


def test_a_file_that_ends_early(box):
    box.write_bytes(box.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"box\.safetensors: not a weights file, or broken"):
        read_boxed(box, "box", 0.5)


@pytest.mark.parametrize("damage", ["missing", "nan"])
def test_damage_is_said_when_the_networks_are_loaded(box, damage):
    state = load_file(box)
    name = "detector.heads.box_predictor.cls_score.weight"
    if damage == "missing":
        del state[name]
    else:
        state[name][0, 0] = torch.nan
    with safetensors.safe_open(box, "pt") as opened:
        metadata = opened.metadata()
    save_file(state, box, metadata)
    message = "weights of another network" if damage == "missing" else "numbers are not finite"
    with pytest.raises(InputError, match=rf"box\.safetensors: .*{message}"):
        instances(read_boxed(box, "box", 0.5))


def test_parts_of_other_classes_are_refused(parts, tmp_path):
    """As in the pipeline: a classifier from before the classes were changed."""
    other = PRM.model_copy(update={"classes": ("cow", "dog")})
    write_weights(tmp_path / "prm.safetensors", Prm(other, "none"), other)
    predictor = Predictor(parts / "detector.safetensors", SETTINGS, tmp_path / "prm.safetensors")
    with pytest.raises(InputError, match=r"prm\.safetensors: a classifier of cow, dog; "):
        predictor.detect(IMAGE)
