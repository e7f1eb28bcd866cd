"""`wise new` and `wise check`, typed as a user would."""

import errno
import importlib
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.artifacts.weights import load_weights, read_description
from pipeline.classifier.others import OthersDescription
from pipeline.common.errors import InputError
from pipeline.proposals.sharpmask.network import SharpMask, SharpMaskDescription
from stages.common.shelf import Shelf
from tests.support.running import run
from wise.new import SHARPMASK, new
from wise.parameters import model


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "photo graphs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["image;猫;dog, big"]
    for number in range(10):
        pixels = rng.integers(0, 256, (90, 120, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
        rows.append(f"{number}.jpg;{number % 2};{int(number % 3 == 0)}")
    (folder / "tags.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    return folder


@pytest.fixture(scope="module")
def copy(photographs):
    place = photographs.parent / "copy"
    new(place, photographs, photographs / "tags.csv")
    return place


def test_a_working_copy_is_whole_and_under_control(copy, photographs):
    written = yaml.safe_load((copy / "params.yaml").read_text())
    for stage, values in written.items():
        model(stage).parse(values, stage)
    assert written["dataset"]["path"] == str(photographs)
    assert written["proposals"]["method"] == "sharpmask"
    assert written["proposals"]["source"] == SHARPMASK
    network = SharpMask(read_description(copy / SHARPMASK, SharpMaskDescription), "none")
    load_weights(copy / SHARPMASK, network)
    assert written["sampler"]["agreement_power"] == 32
    assert written["sampler"]["max_overlap"] == 0.6
    assert written["prm"]["others"] == "weights/others.safetensors"
    assert written["refinement"]["vote"]
    assert written["sampler"]["draws_per_peak"] == written["mask_rcnn"]["schedule"]["epochs"]
    assert run(copy, "git", "status", "--short").stdout == ""
    assert (copy / ".dvc/config").is_file()


def test_a_disk_that_is_full_of_the_first_files_is_a_short_line(photographs, tmp_path, monkeypatch):
    def full(source, target, **_):
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(
        InputError, match=r"/copy: not copied: .*No space left on device"
    ) as refusal:
        new(tmp_path / "copy", photographs, photographs / "tags.csv")
    assert len(str(refusal.value)) < 500
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["_copy_code", "write_preset", "_initialize_repository"])
def test_a_copy_that_fails_half_way_leaves_nothing(photographs, tmp_path, monkeypatch, step):
    module = importlib.import_module("wise.new")
    whole = getattr(module, step)

    def full(*of):
        whole(*of)
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr(module, "_initialize_repository", lambda _: None)
    monkeypatch.setattr(module, step, full)
    with pytest.raises(OSError, match="No space left"):
        new(tmp_path / "copy", photographs, photographs / "tags.csv")
    assert not list(tmp_path.iterdir())
    # A copy that was killed leaves its unfinished folder, which the next one replaces.
    (tmp_path / ".copy.unfinished" / "stages").mkdir(parents=True)
    monkeypatch.setattr(module, step, whole if step != "_initialize_repository" else lambda _: None)
    new(tmp_path / "copy", photographs, photographs / "tags.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_strict_uses_nothing_that_has_seen_a_mask(photographs, tmp_path):
    new(tmp_path / "strict", photographs, photographs / "tags.csv", strict=True)
    written = yaml.safe_load((tmp_path / "strict" / "params.yaml").read_text())
    assert written["proposals"]["method"] == "grouping"
    assert not written["refinement"]["vote"]
    with pytest.raises(InputError, match=r"^--strict .*: leave out --masks$"):
        new(tmp_path / "other", photographs, photographs / "tags.csv", tmp_path, strict=True)
    assert not (tmp_path / "other").exists()


def test_masks_of_ones_own_train_a_sharpmask(photographs, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    new(tmp_path / "own", photographs, photographs / "tags.csv", masks)
    written = yaml.safe_load((tmp_path / "own" / "params.yaml").read_text())
    assert written["sharpmask"]["path"] == str(masks)
    proposals = written["proposals"]
    assert Shelf().holds_sharpmask_of(proposals["method"], proposals["source"])


@pytest.mark.parametrize("single", [True, False])
def test_the_size_is_that_of_the_others_in_the_box_if_they_are_needed(
    photographs, tmp_path, single
):
    rows = [f"{number}.jpg,{'pothole' if single or number % 2 else ''}" for number in range(10)]
    (tmp_path / "tags.csv").write_text("\n".join(["image,tags", *rows]))
    new(tmp_path / "own", photographs, tmp_path / "tags.csv")
    written = yaml.safe_load((tmp_path / "own" / "params.yaml").read_text())
    of_box = read_description(tmp_path / "own" / written["prm"]["others"], OthersDescription)
    assert (written["prm"]["image_size"] == of_box.image_size) is single
    assert (written["prm"]["backbone"], written["prm"]["weights"]) == (
        of_box.backbone,
        of_box.weights,
    )


def test_photographs_without_the_classes_are_for_the_classifier(photographs, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    new(tmp_path / "own", photographs, photographs / "tags.csv", others=others)
    written = yaml.safe_load((tmp_path / "own" / "params.yaml").read_text())
    assert written["prm"]["others"] == str(others)
    around = photographs.parent
    with pytest.raises(InputError, match=r"^--others .*: the photographs of --images are in it$"):
        new(tmp_path / "other", photographs, photographs / "tags.csv", others=around)


def test_what_is_wrong_gives_status_1_and_json(copy, photographs):
    (photographs / "3.jpg").write_bytes(b"no image")
    done = run(copy / "pipeline", "python", "-m", "wise", "check", "--json", check=False)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert any("3.jpg: not an image" in problem["message"] for problem in report["problems"])
    assert report["estimate"] is None


@pytest.mark.parametrize("inside", [True, False])
def test_places_that_will_not_do_are_refused(photographs, inside):
    place = photographs / "copy" if inside else photographs.parent
    environment = (photographs.parent / "copy") if not inside else photographs
    done = run(
        environment, "wise", "new", str(place), "--images", str(photographs),
        "--tags", str(photographs / "tags.csv"), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"wise: {place}: ")
    assert "Traceback" not in done.stderr
