"""The stage `mask_rcnn_gt`, the upper bound, on and off."""

import shutil

import pytest

from pipeline.artifacts.instances import InstanceStore
from pipeline.artifacts.split import Split
from pipeline.common.errors import InputError
from pipeline.training.results import RESULTS
from tests.support.running import run_here
from tests.support.training_project import NAMES, enable, make, true_image, truth

ONE_WORKER = {"WISE_WORKERS": "1"}


@pytest.fixture
def project(tmp_path):
    """What the stage reads, without truth; the one photograph of val is a copy of one of train."""
    make(tmp_path, epochs=1, batch=2)
    train = Split.read(tmp_path / "data/dataset/train.json")
    shutil.copy(tmp_path / "one.png", tmp_path / "four.png")
    shown = train.photographs[0].model_copy(update={"id": "four", "file": "four.png"})
    val = train.model_copy(update={"photographs": (shown,)})
    val.write(tmp_path / "data/dataset/val.json")
    return tmp_path


def stores(project):
    return {name: InstanceStore(project / "data/mask_rcnn_gt" / name) for name in ("val", "train")}


def test_off_it_leaves_empty_stores_that_say_so(project, capsys):
    run_here(project, "mask_rcnn_gt", **ONE_WORKER)
    for store in stores(project).values():
        assert len(store) == 0
        assert store.attributes["parameters"] == {"enabled": False}
    assert "mask_rcnn_gt: off" in capsys.readouterr().out
    assert not list(project.rglob("*.safetensors"))


def test_on_it_is_mask_rcnn_but_for_where_masks_come_from(project, capsys):
    """The pseudo masks of this project are its true ones: both trainings end with the same bytes.

    So do they if it ends between training and predictions, and goes on.
    """
    enable(project)
    truth(*(true_image(name, 1) for name in NAMES)).write(project / "data/dataset/truth/train.json")
    (project / "four.png").rename(project / "away.png")
    with pytest.raises(InputError, match=r"four\.png: no such image"):
        run_here(project, "mask_rcnn_gt", **ONE_WORKER)
    assert not (project / "data/mask_rcnn_gt").exists()
    assert "epoch 1/1" in capsys.readouterr().err
    (project / "away.png").rename(project / "four.png")
    run_here(project, "mask_rcnn_gt", **ONE_WORKER)
    assert "epoch 1/1" not in capsys.readouterr().err
    run_here(project, "mask_rcnn", **ONE_WORKER)
    place = project / "data/mask_rcnn_gt"
    for name in ("weights.safetensors", "metrics.json"):
        trained = project / "data/mask_rcnn" / name
        assert (place / name).read_bytes() == trained.read_bytes()
    assert {path.name for path in place.iterdir()} == {*RESULTS, "val", "train"}
    for name, images in {"val": ["four"], "train": list(NAMES)}.items():
        assert list(stores(project)[name]) == images
        assert stores(project)[name].attributes["parameters"] == {"enabled": True}
