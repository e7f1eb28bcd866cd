"""The stages of community learning, enabled and off."""

import shutil

import numpy as np
import pytest
import yaml

from pipeline.artifacts.instances import Instances, InstanceStore, InstanceWriter
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.common import masks
from pipeline.common.errors import InputError
from tests.support.running import run_here, shelf
from tests.support.training_project import CLASSES, NAMES, SIDE, make

ONE_WORKER = {"WISE_WORKERS": "1"}


@pytest.fixture
def project(tmp_path):
    make(tmp_path, epochs=1, batch=1)
    for folder, name in (("dataset", "{}.json"), ("proposals", "{}")):
        train, val = (tmp_path / "data" / folder / name.format(s) for s in ("train", "val"))
        (shutil.copytree if train.is_dir() else shutil.copy)(train, val)
    return tmp_path


def change(project, stage, **values):
    parameters = yaml.safe_load((project / "params.yaml").read_text())
    parameters[stage] |= values
    (project / "params.yaml").write_text(yaml.safe_dump(parameters))


def stores(project):
    folder = project / "data/community_predictions"
    return {name: InstanceStore(folder / name) for name in ("val", "train")}


def test_off_leaves_empty_results(project, capsys):
    change(project, "community", enabled=False)
    for stage in ("community", "community_predictions"):
        run_here(project, stage, **ONE_WORKER)
    assert (project / "data/community/weights.safetensors").read_bytes() == b""
    assert (project / "data/community/curves").is_dir()
    for store in stores(project).values():
        assert list(store) == []
        assert not store.attributes["parameters"]["enabled"]
    assert "community: off; set community.enabled" in capsys.readouterr().out
    change(project, "mask_rcnn", pseudo_masks="community")
    message = "pseudo_masks = community, but community is off; set community.enabled"
    with pytest.raises(InputError, match=message):
        run_here(project, "mask_rcnn", **ONE_WORKER)


def test_enabled_it_trains_and_detects(project, capsys):
    change(project, "community_predictions", max_detections=2)
    for stage in ("community", "community_predictions"):
        run_here(project, stage, **ONE_WORKER)
    assert "community: 3 images, 0 without proposals skipped, loss" in capsys.readouterr().out
    assert "data/community/curves/plots/metrics/segmentation.tsv" in shelf(project, "community")
    for store in stores(project).values():
        assert list(store) == list(NAMES)
        assert store.attributes["classes"] == list(CLASSES)
        assert all(len(store.instances(name).masks) <= 2 for name in NAMES)


@pytest.mark.parametrize("pseudo_masks", ["community", "mixed"])
def test_its_instances_train_the_detector(project, pseudo_masks):
    (mask,) = masks.encode(np.pad(np.ones((1, 40, 40), bool), ((0, 0), (20, 36), (20, 36))))
    one = Instances([mask], np.array([0], np.int16), np.array([0.9], np.float32))
    place = project / "data/community_predictions/train"
    with InstanceWriter(place, "community_predictions", CLASSES, {"enabled": True}) as store:
        for name in NAMES:
            store.add(name, SIDE, SIDE, one)
    change(project, "mask_rcnn", pseudo_masks=pseudo_masks)
    run_here(project, "mask_rcnn", **ONE_WORKER)
    assert (project / "data/mask_rcnn/weights.safetensors").is_file()


def test_a_photograph_without_a_proposal_is_said_if_there_is_no_other(project):
    shutil.rmtree(project / "data/proposals/train")
    with ProposalWriter(project / "data/proposals/train", "grouping", "no masks", {}) as store:
        for name in NAMES:
            store.add(name, 96, 96, Proposals([], np.zeros(0, np.float32)))
    with pytest.raises(InputError, match=r"data/proposals/train: no image has a proposal"):
        run_here(project, "community", **ONE_WORKER)
