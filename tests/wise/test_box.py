"""`python -m wise.box others`: features of photographs of COCO."""

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.artifacts.weights import read_description
from pipeline.classifier.features import views
from pipeline.classifier.network import Prm, PrmDescription
from pipeline.classifier.others import OthersDescription, read_others
from pipeline.common.coco_json import read_document
from pipeline.common.images import read_image
from pipeline.dataset.scenes.files import draw_coco
from tests.support import ROOT
from wise import box


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in the working directory, and the description of its classifier."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "dvc.yaml").symlink_to(ROOT / "dvc.yaml")
    parameters = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())
    parameters["prm"]["image_size"] = 128
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WISE_WORKERS", "1")
    prm = parameters["prm"]
    return PrmDescription(
        backbone=prm["backbone"], classes=("any",), image_size=128, upsample=prm["upsample"]
    )


def test_others_are_features_of_photographs_of_coco(project, tmp_path):
    draw_coco(tmp_path / "coco", 3, seed=1)
    done = CliRunner().invoke(box.app, ["others", "coco", "--out", "box"], catch_exceptions=False)
    assert done.output.endswith("others.safetensors: 0.0 MB\n")
    document = read_document(tmp_path / "coco" / "instances.json", "missing")
    file = tmp_path / "box" / "others.safetensors"
    shown = {document.categories[a.category_id - 1].name for a in document.annotations}
    assert set(read_description(file, OthersDescription).categories) == shown
    network = Prm(project, "package").eval()
    found = read_others(file, ["pothole"]).features
    for features, image in zip(found, document.images, strict=True):
        pixels = read_image(tmp_path / "coco" / "images" / image.file_name)
        ((whole, _),) = views(network, [pixels])
        assert np.abs(features - whole[:, 1::2, 1::2]).max() <= 6 / 255
