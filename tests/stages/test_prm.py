"""The classifier of a single class, which every training image shows."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.common.errors import InputError
from tests.support.running import run_here
from tests.support.training_project import make
from wise.project import others


@pytest.fixture
def project(tmp_path):
    """Three images that all show a cat, and nothing else."""
    make(tmp_path, epochs=1, batch=4)
    index = tmp_path / "data" / "dataset" / "train.json"
    split = json.loads(index.read_text()) | {"classes": ["cat"]}
    for photograph in split["photographs"]:
        photograph["tags"] = ["cat"]
    index.write_text(json.dumps(split))
    return tmp_path


def test_it_is_not_trained_without_others(project):
    with pytest.raises(InputError, match=r"^every training image shows cat: set prm\.others to "):
        run_here(project, "prm")
    assert not (project / "data" / "prm").exists()


@pytest.mark.parametrize("backbone_lr_factor", [0.0, 0.25])
def test_photographs_of_a_folder_are_trained_on_without_tags(project, capsys, backbone_lr_factor):
    (project / "others").mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (60, 90, 3), np.uint8)
        Image.fromarray(noise).save(project / "others" / f"{number}.png")
    parameters = yaml.safe_load((project / "params.yaml").read_text())
    parameters["prm"] |= {"others": "others"}
    parameters["prm"]["schedule"]["backbone_lr_factor"] = backbone_lr_factor
    (project / "params.yaml").write_text(yaml.safe_dump(parameters))
    run_here(project, "prm")
    told = capsys.readouterr().out
    assert "prm: 2 images of others besides, without a class\n" in told
    assert "prm: 3 images, 1 classes, loss" in told
    assert others(project) == "2 photographs of others"
