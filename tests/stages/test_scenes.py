"""The stage that draws the embedded scenes, or none."""

import json

import yaml

from tests.support import ROOT
from tests.support.running import run_here


def draw(folder, **counts):
    for name in ("pipeline", "stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    scenes = {"train": 0, "val": 0, "source": 0, "seed": 1} | counts
    (folder / "params.yaml").write_text(yaml.safe_dump({"scenes": scenes}))
    run_here(folder, "scenes")
    return folder / "data" / "scenes"


def test_target_and_source_scenes_are_drawn(tmp_path):
    drawn = draw(tmp_path, train=3, val=2, source=2)
    voc = drawn / "VOCdevkit" / "VOC2012"
    lists = voc / "ImageSets" / "Segmentation"
    assert len((lists / "train.txt").read_text().split()) == 3
    assert len((lists / "val.txt").read_text().split()) == 2
    assert len(list((voc / "JPEGImages").iterdir())) == 5
    assert len(json.loads((drawn / "source" / "instances.json").read_text())["images"]) == 2


def test_none_are_drawn_for_other_photographs(tmp_path):
    drawn = draw(tmp_path)
    assert not list(drawn.rglob("*.jpg"))
    assert json.loads((drawn / "source" / "instances.json").read_text())["images"] == []
