"""`wise check` on a folder like VOCdevkit/VOC2012, with as many photographs as the paper has."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.dataset.scenes.files import draw_coco
from tests.support import ROOT
from tests.support.parameters import tiny_parameters
from tests.support.voc import write_voc
from wise import app

VAL = 1_449


@pytest.mark.parametrize("train", [1_464, 10_582])  # the list `train`, and SBD's
def test_the_official_lists_are_checked_and_their_run_is_estimated(tmp_path, monkeypatch, train):
    preset = yaml.safe_load((ROOT / "presets" / "voc2012.yaml").read_text())
    parameters = tiny_parameters()
    parameters["dataset"] |= preset["dataset"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    for name in ("dvc.yaml", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    folder = tmp_path / preset["dataset"]["path"]
    write_voc(folder, {"train": train, "val": VAL}, preset["dataset"]["classes"])
    draw_coco(tmp_path / parameters["sharpmask"]["path"], 4, seed=3)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["check", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert found["images"] == {"train": train, "val": VAL}
    seconds = found["estimate"]["seconds"]
    assert {"prm", "sharpmask", "proposals", "sampler", "mask_rcnn"} <= set(seconds)
    assert all(value > 0 for value in seconds.values())
