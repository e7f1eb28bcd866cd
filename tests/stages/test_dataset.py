import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.artifacts.split import Split
from pipeline.artifacts.truth import Truth
from pipeline.common.errors import InputError
from pipeline.dataset import index as dataset
from pipeline.dataset import listing, voc
from pipeline.dataset.scenes.files import draw_voc
from pipeline.dataset.scenes.patterns import CLASSES
from stages import dataset as stage
from tests.support import ROOT
from tests.support.dataset import VALUES, parameters
from tests.support.parameters import tiny_parameters
from tests.support.running import kill_soon, run_here, script, shelf, start, wait_until

SEEN = {
    "train": {"a": {"cat"}, "b": {"dog"}, "c": {"cat", "dog"}},
    "val": {"d": {"cat"}},
}


def write(folder, seen=SEEN):
    """Photographs and tags in the form of VOC, without any mask."""
    rng = np.random.default_rng(0)
    for part in ("JPEGImages", "Annotations", "ImageSets/Main", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, images in seen.items():
        (folder / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(images))
        for image, shown in images.items():
            pixels = rng.integers(0, 256, (8, 10, 3), "u1")
            Image.fromarray(pixels).save(folder / f"JPEGImages/{image}.jpg")
            objects = "".join(f"<object><name>{kind}</name></object>" for kind in shown)
            (folder / f"Annotations/{image}.xml").write_text(f"<annotation>{objects}</annotation>")
        for kind in ("cat", "dog", "emu"):
            lines = [f"{image} {1 if kind in shown else -1}" for image, shown in images.items()]
            (folder / f"ImageSets/Main/{kind}_{name}.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def in_this_process(monkeypatch):
    for module in (listing, voc):
        monkeypatch.setattr(module, "ordered_map", lambda call, items, workers: map(call, items))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "zip"}, "dataset.kind = 'zip'"),
        ({"tags": "main"}, "tags must be photographs/ImageSets/Main or"),
        ({"val_fraction": 1.0}, "dataset.val_fraction = 1.0"),
        ({"classes": ["cat", "cat"]}, "a class is listed twice"),
        ({"classes": [""]}, "dataset.classes.0"),
        ({"train": "../train"}, "dataset.train"),
        ({"val": "train"}, "train and val must be different lists"),
        ({"tag": "main"}, "did you mean tags"),
    ],
)
def test_impossible_parameters_are_refused(changed, message):
    with pytest.raises(InputError, match=message):
        parameters(**changed)


def of(folder, tags="Annotations", **changed):
    return parameters(path=str(folder), tags=f"{folder}/{tags}", **changed)


def test_unknown_classes_are_refused_with_those_there_are(tmp_path, in_this_process):
    write(tmp_path)
    message = "the tag cats; did you mean cat.* its tags are: cat, dog$"
    with pytest.raises(InputError, match=message):
        dataset.read_splits(of(tmp_path, classes=["cats"]), tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"cats_train\.txt: no such file"):
        dataset.read_splits(of(tmp_path, "ImageSets/Main", classes=["cats"]), tmp_path, tmp_path)


@pytest.mark.parametrize("tags", ["Annotations", "ImageSets/Main"])
def test_a_class_that_no_training_image_shows_is_refused(tmp_path, tags, in_this_process):
    write(tmp_path)
    with pytest.raises(InputError, match="no image of the list train has the tag emu"):
        dataset.read_splits(of(tmp_path, tags, classes=["cat", "emu"]), tmp_path, tmp_path)


@pytest.mark.parametrize("tags", ["Annotations", "ImageSets/Main"])
def test_without_classes_there_are_those_that_training_images_show(tmp_path, tags, in_this_process):
    write(tmp_path)
    splits = dataset.read_splits(of(tmp_path, tags, classes=[]), tmp_path, tmp_path)
    assert splits["train"].classes == splits["val"].classes == ("cat", "dog")


def test_a_class_may_be_missing_from_val(tmp_path, in_this_process):
    splits = dataset.read_splits(parameters(), write(tmp_path), tmp_path)
    assert [p.tags for p in splits["val"].photographs] == [("cat",)]
    assert dataset.concerns(splits) == []


def test_what_is_hardly_meant_is_said(tmp_path, in_this_process):
    seen = {**SEEN, "train": {image: {"cat"} for image in "ab"} | {"c": {"cat", "dog"}}}
    folder = write(tmp_path, seen)
    (folder / "JPEGImages/d.jpg").write_bytes((folder / "JPEGImages/a.jpg").read_bytes())
    every, shared = dataset.concerns(dataset.read_splits(parameters(), folder, tmp_path))
    assert every.startswith("every training image shows cat: it cannot be learned without photogr")
    assert shared.startswith("photographs in both lists: 1")


def test_a_single_class_is_said_to_be_learned_from_others(tmp_path, in_this_process):
    seen = {**SEEN, "train": {image: {"cat"} for image in "abc"}}
    (told,) = dataset.concerns(
        dataset.read_splits(parameters(classes=["cat"]), write(tmp_path, seen), tmp_path)
    )
    assert told == (
        "every training image shows cat: what does not show it is learned from the photographs of "
        "prm.others"
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project, in which the stage is run with given parameters."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WISE_WORKERS", "1")
    entry = {"params": ["dataset"], "deps": ["${dataset.path}"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"dataset": entry}}))

    def run(**changed):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({"dataset": {**VALUES, **changed}}))
        stage.main()
        return tmp_path / "data/dataset"

    return run


def test_stage_indexes_photographs_where_they_are(project, tmp_path, capsys):
    write(tmp_path / "photographs")
    shelf = project()
    split = Split.read(shelf / "train.json")
    assert split.root == "photographs"
    assert [p.tags for p in split.photographs] == [("cat",), ("dog",), ("cat", "dog")]
    assert split.image(split.photographs[0]).shape == (8, 10, 3)
    assert Truth.read(shelf / "truth/val.json").images == ()
    assert "3 images of train (0 with masks)" in capsys.readouterr().out


def test_stage_leaves_nothing_half_written(project, tmp_path, in_this_process):
    write(tmp_path / "photographs")
    (tmp_path / "photographs/JPEGImages/d.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"d\.jpg"):
        project()
    assert not (tmp_path / "data").exists()


def test_stage_indexes_generated_scenes(project, tmp_path, in_this_process):
    draw_voc(tmp_path / "drawn", {"train": 12, "val": 2}, seed=1)
    classes = list(CLASSES)[:1]
    shelf = project(path="drawn", tags="drawn/ImageSets/Main", classes=classes)
    split, truth = Split.read(shelf / "train.json"), Truth.read(shelf / "truth/train.json")
    assert [image.id for image in truth.images] == [p.id for p in split.photographs]
    for photograph, image in zip(split.photographs, truth.images, strict=True):
        assert split.image(photograph).shape == (image.height, image.width, 3)
        assert bool(photograph.tags) == bool(image.instances)


def test_a_killed_index_goes_on_to_the_same_bytes(tmp_path, capsys):
    folder = tmp_path / "project"
    (folder / "photographs").mkdir(parents=True)
    for name in ("pipeline", "stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    rng = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(400)]
    for name in names:
        pixels = rng.integers(0, 255, (200, 300, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photographs" / name)
    rows = [f"{name},cat" for name in names]
    (folder / "tags.csv").write_text("\n".join(["image,tags", *rows]))
    changed = tiny_parameters()
    changed["dataset"] |= {"kind": "folder", "path": "photographs", "tags": "tags.csv"}
    changed["dataset"]["classes"] = []
    (folder / "params.yaml").write_text(yaml.safe_dump(changed))
    known = 0
    for _ in range(2):
        process = start(folder, *script("dataset"))
        wait_until(lambda known=known: len(noted(folder)) > known + 20, process)
        kill_soon(process, within=0.01)
        assert not (folder / "data" / "dataset").exists()
        known = len(noted(folder))
    (file,) = folder.glob(".scratch/dataset/*/train.indexed")
    with file.open("a") as torn:
        torn.write('{"id": "half')
    capsys.readouterr()
    run_here(folder, "dataset")
    shown = capsys.readouterr().err
    train = len(Split.read(folder / "data/dataset/train.json").photographs)
    assert f"photographs of train: {train - known}/{train - known}" in shown
    went_on = shelf(folder, "dataset")
    (folder / "data").rename(tmp_path / "went on")
    run_here(folder, "dataset")
    assert shelf(folder, "dataset") == went_on


def noted(folder):
    """The training photographs that a dataset stage has noted."""
    return [
        line
        for file in folder.glob(".scratch/dataset/*/train.indexed")
        for line in file.read_text().splitlines()
    ]
