"""Errors and warnings of `wise check`."""

import shutil

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset import check, listing, sizing
from pipeline.dataset.listing import Listed, Listing
from tests.support.dataset import VALUES, parameters

SIDE = check.TINY_SIDE


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twenty cats and twenty dogs, one of each for evaluation, without problems."""
    monkeypatch.setattr(listing, "ordered_map", lambda call, items, workers: map(call, items))
    monkeypatch.setattr(check, "FEW_IMAGES", 15)
    rng = np.random.default_rng(0)
    rows = ["image,tag,split"]
    for number in range(40):
        name = f"{number:02d}.png"
        pixels = rng.integers(0, 256, (SIDE, SIDE + 1, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
        rows.append(
            f"{name},{'cat' if number < 20 else 'dog'},{'val' if number % 20 == 0 else 'train'}"
        )
    (tmp_path / "tags.csv").write_text("\n".join(rows))
    return tmp_path


def replace(folder, old, new):
    table = folder / "tags.csv"
    table.write_text(table.read_text().replace(old, new))


def found(folder, **changed):
    of_folder = {"kind": "folder", "path": str(folder), "tags": str(folder / "tags.csv")}
    settings = parameters(**{**VALUES, **of_folder, "classes": [], **changed})
    return [tuple(problem) for problem in check.check(settings, folder).problems]


def test_a_good_dataset_has_no_problems(folder):
    assert found(folder) == []


def test_broken_and_missing_images_are_errors(folder):
    (folder / "03.png").write_bytes((folder / "03.png").read_bytes()[:99])
    (folder / "04.png").unlink()
    (broken, missing) = found(folder)
    assert broken[0] == missing[0] == "error"
    assert "03.png: broken image" in broken[1]
    assert "04.png: no such image" in missing[1]


def test_an_unreadable_table_is_an_error(folder):
    replace(folder, "image,", "file,")
    ((level, message),) = found(folder)
    assert level == "error"
    assert "no column 'image'" in message


def test_the_same_photograph_is_noticed(folder):
    shutil.copy(folder / "05.png", folder / "06.png")
    shutil.copy(folder / "07.png", folder / "00.png")
    across, *same = found(folder)
    assert across == ("warning", "photographs in both lists: 1, so val is not held out")
    assert [message for _, message in same] == [
        "the same photograph 2 times: 05.png, 06.png",
        "the same photograph 2 times: 07.png, 00.png",
    ]


def test_a_misspelt_tag_is_noticed(folder):
    replace(folder, "30.png,dog", "30.png,Dogs")
    assert found(folder) == [
        ("warning", "class Dogs: few training images (1); did you mean dog?"),
    ]
    (unknown, without) = found(folder, classes=["cat", "dog"])
    assert unknown == (
        "warning",
        "tag Dogs (images: 1) is not in dataset.classes; nearest class: dog",
    )
    assert without[1].startswith("training images without a class: 1")


def test_classes_that_always_occur_together_are_noticed(folder):
    table = folder / "tags.csv"
    rows = table.read_text().splitlines()
    dogs = [row for row in rows if ",dog," in row]
    table.write_text("\n".join(rows + [row.replace("dog", "lead") for row in dogs]))
    assert found(folder) == [
        ("warning", "classes dog and lead always occur together: tags cannot tell them apart")
    ]
    table.write_text("\n".join(rows + [row.replace("dog", "lead") for row in dogs[:17]]))
    assert found(folder) == [
        ("warning", "class lead never occurs without dog: its peaks may lie on dog")
    ]


def test_unlisted_and_tiny_photographs_are_noticed(folder):
    Image.new("RGB", (SIDE, SIDE)).save(folder / "new.webp")
    Image.new("RGB", (SIDE, SIDE - 1)).save(folder / "01.png")
    assert found(folder) == [
        ("warning", "photographs in neither list (1): new.webp"),
        ("warning", f"photographs with a side below {SIDE} pixels (1): 01.png"),
    ]


def test_suggested_parameters_depend_on_the_number_and_size_of_photographs():
    small = sizing.suggest_parameters(40, [(100, 140)], batch_size=4)
    large = sizing.suggest_parameters(100_000, [(3000, 4000)], batch_size=4)
    assert small["prm"]["schedule"]["epochs"] == sizing.MAX_EPOCHS
    assert large["prm"]["schedule"]["epochs"] == sizing.MIN_EPOCHS
    assert small["prm"]["image_size"] < large["prm"]["image_size"]
    assert large["peaks"]["scales"] == [480, 576]
    # Windows of SharpMask cover the same fractions of photographs of any size.
    assert small["proposals"]["sharpmask"] == {"min_scale": -0.5, "max_scale": 2.0}
    assert large["proposals"]["sharpmask"] == {"min_scale": -5.5, "max_scale": -3.0}
    for settings in (small, large):
        assert settings["prm"]["schedule"]["backbone_lr_factor"] == 0
        schedule = settings["mask_rcnn"]["schedule"]
        assert settings["sampler"]["draws_per_peak"] == schedule["epochs"]
        architecture = settings["mask_rcnn"]["architecture"]
        assert architecture["min_size"] <= architecture["max_size"]
        assert settings["prm"]["image_size"] % sizing.STRIDE == 0


def test_unreadable_images_have_no_size(folder):
    (folder / "00.png").unlink()
    images = tuple(Listed(name, name, frozenset()) for name in ("00.png", "01.png"))
    assert sizing.image_sizes(Listing(folder, images)) == [(SIDE + 1, SIDE)]
