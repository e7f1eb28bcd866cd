"""The time of a run: all stages, each as often as a run does it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import ndimage

from pipeline.artifacts.proposals import Proposals
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.dataset.scenes.files import draw_coco
from tests.support import ROOT
from tests.support.parameters import tiny_parameters
from wise import estimate
from wise.parameters import model

CLASSES = ("cat", "dog")
SIDE, TRAIN, VAL = 96, 6, 2


@pytest.fixture
def splits(tmp_path, monkeypatch):
    """Photographs of noise, and masks to learn proposals from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WISE_WORKERS", "2")
    monkeypatch.setattr(estimate, "_start_process", lambda: None)
    draw_coco(tmp_path / "photographs" / "source", 4, seed=3)
    rng = np.random.default_rng(0)
    photographs = []
    for number in range(TRAIN + VAL):
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(f"{number}.png")
        tags = CLASSES[: number % 3]  # every third has none
        photographs.append(
            Photograph(
                id=str(number), file=f"{number}.png", height=SIDE, width=SIDE, sha256="", tags=tags
            )
        )
    of = {"train": photographs[:TRAIN], "val": photographs[TRAIN:]}
    return {
        name: Split(root=str(tmp_path), classes=CLASSES, photographs=tuple(some))
        for name, some in of.items()
    }


def settings(**changed):
    values = tiny_parameters()
    for stage, change in changed.items():
        values[stage] |= change
    stages = estimate.Settings._fields
    return estimate.Settings(
        **{stage: model(stage).parse(values[stage], stage) for stage in stages}
    )


def test_every_stage_counts_as_often_as_it_is_done(splits, monkeypatch):
    monkeypatch.setattr(estimate, "_timed", lambda call, *given: (call(*given), 1.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    found = estimate.estimate(splits, settings())
    # A step of four takes a second of three threads, and loading four of one, on two cores.
    steps = {"prm": TRAIN / 4, "mask_rcnn": TRAIN / 4, "sharpmask": 8 / 4 + 8 / 4}
    one, images = 1 / 2, TRAIN + VAL
    expected = {stage: 3.5 * count for stage, count in steps.items()}
    expected |= {"peaks": 2 * one * TRAIN, "proposals": one * images, "sampler": one * TRAIN}
    expected |= {"predictions": 2 * one * images, "refinement": one * images}
    expected["retrieval"] = 3 * one * images + 2 * one * VAL
    assert found.seconds == pytest.approx(expected)
    ran = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    ran -= {"mask_rcnn_gt", "community", "community_predictions"}
    assert {*found.seconds, *found.not_timed} == ran
    assert found.start_seconds == len(ran) * estimate.PROCESSES_A_STAGE
    assert found.total() == sum(expected.values()) + found.start_seconds
    assert found.stored_bytes > 40 * images * estimate.MASK_BYTES


def test_proposals_by_grouping_train_no_sharpmask(splits):
    grouping = {"method": "grouping"}
    upper_bound = {"enabled": True}
    found = estimate.estimate(splits, settings(proposals=grouping, mask_rcnn_gt=upper_bound))
    assert "sharpmask" not in found.seconds
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert found.seconds["mask_rcnn_gt"] > found.seconds["mask_rcnn"]


def test_a_sharpmask_from_elsewhere_computes_on_the_device(splits, monkeypatch):
    """On a GPU, where the processes of a stage take turns."""
    monkeypatch.setattr(estimate, "_timed", lambda call, *given: (call(*given), 1.0))
    monkeypatch.setattr(estimate, "_at_once", lambda on_cores=False: 2 if on_cores else 1)
    shipped = {"source": str(ROOT / "weights" / "sharpmask.safetensors")}
    found = estimate.estimate(splits, settings(proposals=shipped))
    assert found.seconds["proposals"] == TRAIN + VAL
    assert found.seconds["sampler"] == TRAIN / 2


def test_community_learning_counts_if_it_is_enabled(splits):
    changed = {"proposals": {"method": "grouping"}, "community": {"enabled": True}}
    found = estimate.estimate(splits, settings(**changed))
    assert found.seconds["community"] > found.seconds["community_predictions"] > 0


def test_imported_proposals_are_read(splits, tmp_path):
    square = {"size": [SIDE, SIDE], "counts": [2 * SIDE, 40 * SIDE, (SIDE - 42) * SIDE]}
    results = [
        {"image_id": str(number), "category_id": 1, "segmentation": square, "score": 0.5}
        for number in range(TRAIN)
    ]
    (tmp_path / "train.json").write_text(json.dumps(results))
    imported = {"method": "import", "source": str(tmp_path), "supervision": "none"}
    assert estimate.estimate(splits, settings(proposals=imported)).seconds["refinement"] > 0
    (tmp_path / "train.json").unlink()
    with pytest.raises(InputError, match=r"train\.json: missing"):
        estimate.estimate(splits, settings(proposals=imported))


def test_a_single_class_takes_the_time_of_its_others(splits, monkeypatch):
    alone = {name: all_tagged(split, "cat") for name, split in splits.items()}
    with pytest.raises(InputError, match=r"^every training image shows cat: set prm\.others to"):
        estimate.estimate(alone, settings())
    Path("others").mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(noise).save(f"others/{number}.png")
    monkeypatch.setattr(estimate, "_timed", lambda call, *given: (call(*given), 1.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    found = estimate.estimate(alone, settings(prm={"others": "others"}))
    assert found.seconds["prm"] == 3.5 * (TRAIN + 2) / 4


def all_tagged(split, name):
    photographs = [p.model_copy(update={"tags": (name,)}) for p in split.photographs]
    return Split(root=split.root, classes=(name,), photographs=tuple(photographs))


def test_masks_that_teach_nothing_are_named(splits):
    with pytest.raises(InputError, match="no object with a mask and a longer side of at least 900"):
        estimate.estimate(splits, settings(sharpmask={"min_object_size": 900.0}))


def test_ragged_masks_are_smoothed_to_the_size_of_those_of_a_trained_network():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:375, :500]
    ellipse = ((y - 190) / 110) ** 2 + ((x - 250) / 150) ** 2 < 1
    soft = ndimage.gaussian_filter(ellipse.astype(float), 8)
    noise = ndimage.uniform_filter(rng.normal(size=(3, 375, 500)), (1, 3, 3))
    ragged = Proposals(masks.encode(soft + noise / 2 > 0.5), np.ones(3, np.float32))
    smooth = estimate._smoothed(ragged)
    before, after = ([len(mask["counts"]) for mask in one.masks] for one in (ragged, smooth))
    assert min(before) > 3000
    assert max(after) < 1000
    assert masks.iou(ragged.masks, smooth.masks).diagonal().min() > 0.8
