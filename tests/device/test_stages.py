"""Every stage that uses torch, and the estimate, on a pretend GPU."""

import shutil

import pytest
import torch
import yaml

from pipeline.artifacts.split import Split
from pipeline.classifier.training import PrmParameters, fine_tuning, untrained
from pipeline.common import runtime
from pipeline.execution import photographs
from pipeline.training import fit
from tests.support import training_project
from tests.support.parameters import tiny_parameters
from tests.support.running import run_here
from tests.support.tiny import write_project
from wise import estimate
from wise.parameters import model

# How often the host may wait for the GPU: in a step; and in a call, which is for two images in
# `peaks` and `predictions`, and for one in `community_predictions`.
WAITS = {"prm": 0, "sharpmask": 0, "peaks": 4, "predictions": 80, "community_predictions": 40}


@pytest.fixture
def trainings(tmp_path):
    """A project in which the training stages can run."""
    training_project.make(tmp_path, epochs=1, batch=2, rounds=2)
    train = Split.read(tmp_path / "data/dataset/train.json")
    train.write(tmp_path / "data/dataset/val.json")
    return tmp_path


@pytest.fixture
def images(tmp_path):
    """A project in which the stages that treat each image by itself can run."""
    write_project(tmp_path / "project", images=4)
    return tmp_path / "project"


def change(project, stage, **values):
    parameters = yaml.safe_load((project / "params.yaml").read_text())
    parameters[stage] |= values
    (project / "params.yaml").write_text(yaml.safe_dump(parameters))


@pytest.mark.parametrize("stage", ["prm", "sharpmask"])
def test_a_step_of_a_training_does_not_wait(trainings, gpu, stage, monkeypatch):
    steps = []

    def recorded(*given, step=fit._step):
        gpu.waits.clear()
        terms = step(*given)
        steps.append(list(gpu.waits))
        return terms

    monkeypatch.setattr(fit, "_step", recorded)
    run_here(trainings, stage)
    assert steps
    assert max(map(len, steps)) <= WAITS[stage], steps


def test_the_classifier_is_trained_in_float32(trainings, gpu):
    """Rounded to bfloat16, other cells are peaks."""
    split = Split.read(trainings / "data/dataset/train.json")
    parameters = PrmParameters.parse(tiny_parameters()["prm"], "prm")
    network = untrained(split, parameters)
    dtypes = set()
    for layer in (network.backbone, network.head, network.presence_head):
        layer.register_forward_hook(lambda layer, given, result: dtypes.add(result.dtype))
    training = fine_tuning(network, split, parameters)
    images = torch.zeros(2, 3, 64, 64, device=runtime.device())
    with runtime.autocast(runtime.device()):
        training.loss((images, torch.zeros(2, 2, device=runtime.device())))
    assert dtypes == {torch.float32}


def test_the_head_of_a_frozen_classifier(trainings, gpu):
    schedule = yaml.safe_load((trainings / "params.yaml").read_text())["prm"]["schedule"]
    change(trainings, "prm", schedule={**schedule, "backbone_lr_factor": 0.0})
    run_here(trainings, "prm")
    assert (trainings / "data/prm/weights.safetensors").exists()


def test_rounds_of_the_detector(trainings, gpu):
    run_here(trainings, "mask_rcnn")
    assert (trainings / "data/mask_rcnn/weights.safetensors").exists()


def test_the_detector_on_true_masks(trainings, gpu):
    objects = [training_project.true_image(name, 0) for name in training_project.NAMES]
    training_project.truth(*objects).write(trainings / "data/dataset/truth/train.json")
    training_project.enable(trainings)
    run_here(trainings, "mask_rcnn_gt")
    assert (trainings / "data/mask_rcnn_gt/weights.safetensors").exists()


def test_stages_that_treat_each_image_by_itself(images, waits_per_call):
    for stage in ("peaks", "proposals", "sampler", "predictions", "retrieval"):
        waits_per_call.clear()
        run_here(images, stage)
        if stage in WAITS:
            assert waits_per_call
            assert max(map(len, waits_per_call)) <= WAITS[stage], waits_per_call


def test_community_learning(trainings, gpu, waits_per_call):
    proposed = trainings / "data/proposals"
    shutil.copytree(proposed / "train", proposed / "val")
    run_here(trainings, "community")
    waits_per_call.clear()
    run_here(trainings, "community_predictions")
    assert waits_per_call
    assert max(map(len, waits_per_call)) <= WAITS["community_predictions"], waits_per_call


def test_the_estimate_of_check(trainings, gpu, monkeypatch):
    monkeypatch.chdir(trainings)
    monkeypatch.setattr(estimate, "_start_process", lambda: None)
    split = Split.read(trainings / "data/dataset/train.json")
    values = tiny_parameters()
    values["community"]["enabled"] = True
    names = estimate.Settings._fields
    settings = estimate.Settings(**{name: model(name).parse(values[name], name) for name in names})
    seconds = estimate.estimate({"train": split, "val": split}, settings).seconds
    assert min(seconds.values()) > 0
    assert "synchronize" in {wait.reason for wait in gpu.waits}


def test_processes_take_turns_on_a_gpu(gpu, monkeypatch):
    """One is the default, and more make nothing faster that a GPU computes."""
    started = []

    def recorded(call, items, workers):
        started.append(workers)
        return map(call, items)

    monkeypatch.setattr(photographs, "ordered_map", recorded)
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda _: range(16))
    monkeypatch.delenv("WISE_WORKERS")
    for on_device in (True, False):
        list(photographs.map_photographs(str, str, [], "", on_device))
    monkeypatch.setenv("WISE_WORKERS", "4")
    list(photographs.map_photographs(str, str, [], "", on_device=True))
    assert started == [1, 16, 4]
    assert (estimate._at_once(), estimate._at_once(on_cores=True)) == (1, 4)
