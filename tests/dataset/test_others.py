"""Photographs of a folder that show none of the classes, added to a split."""

import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import InputError
from pipeline.dataset import listing
from pipeline.dataset.listing import Listed, Listing, index
from pipeline.dataset.others import with_others


def photograph(file, seed):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def split(tmp_path, monkeypatch):
    """Two photographs of cats in `own`, and two of other things in `else`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listing, "ordered_map", lambda call, items, workers: map(call, items))
    for seed, file in enumerate(("own/a.png", "own/b.png", "else/a.png", "else/deep/c.PNG")):
        photograph(tmp_path / file, seed)
    (tmp_path / "else" / "notes.txt").write_text("no photograph")
    images = tuple(Listed(name, f"{name}.png", frozenset({"cat"})) for name in "ab")
    return index(Listing(tmp_path / "own", images), ("cat",), "own", tmp_path / "own.indexed")


@pytest.mark.parametrize("relative", [True, False])
def test_they_come_last_without_tags(split, tmp_path, relative):
    folder = (tmp_path / "else").relative_to(tmp_path) if relative else tmp_path / "else"
    both = with_others(split, folder, tmp_path)
    assert both.classes == ("cat",)
    assert [p.tags for p in both.photographs] == [("cat",), ("cat",), (), ()]
    files = [
        tmp_path / name for name in ("own/a.png", "own/b.png", "else/a.png", "else/deep/c.PNG")
    ]
    assert [both.path(p).resolve() for p in both.photographs] == files


def test_a_training_image_among_them_is_refused(split, tmp_path):
    photograph(tmp_path / "else" / "same.png", seed=1)
    with pytest.raises(InputError, match=r"same\.png: also a training image, b\.png, whose tags"):
        with_others(split, tmp_path / "else", tmp_path)


def test_a_folder_without_photographs_is_refused(split, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no photographs; expected some that show none"):
        with_others(split, tmp_path / "empty", tmp_path)
