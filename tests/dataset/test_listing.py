"""Files that lists name: in the folder of photographs, and nowhere else."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import InputError
from pipeline.dataset import listing
from pipeline.dataset.listing import Listed, Listing


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "photographs"
    (folder / "sub").mkdir(parents=True)
    Image.new("RGB", (7, 5)).save(folder / "sub/a.png")
    Image.new("RGB", (7, 5)).save(tmp_path / "secret.png")
    return folder


@pytest.mark.parametrize("file", ["../secret.png", "sub/../../secret.png", "", ".", "a\0b", "x\\y"])
def test_paths_that_leave_the_folder_are_refused(root, file):
    with pytest.raises(InputError, match="not a path inside"):
        listing.inside(root, file)


def test_absolute_paths_are_refused(root):
    with pytest.raises(InputError, match="not a path inside"):
        listing.inside(root, str(root / "sub/a.png"))


def test_links_may_lead_about_in_the_folder_and_not_out_of_it(root, tmp_path):
    (root / "in.png").symlink_to(root / "sub/a.png")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "away").symlink_to(tmp_path)
    assert listing.inside(root, "in.png") == root / "in.png"
    for file in ("out.png", "away/secret.png"):
        with pytest.raises(InputError, match="a link to a file outside"):
            listing.inside(root, file)


def test_the_folder_itself_may_be_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert listing.inside(tmp_path / "link", "sub/a.png").is_file()


@pytest.mark.parametrize("file", ["absent.png", "sub", "n" * 5000])
def test_missing_files_are_named(root, file):
    with pytest.raises(InputError, match="no such image"):
        listing.inside(root, file)


def test_names_are_found_however_their_letters_are_composed(root):
    decomposed = unicodedata.normalize("NFD", "h\u00e4nsel.png")
    Image.new("RGB", (7, 5)).save(root / decomposed)
    found = listing.inside(root, unicodedata.normalize("NFC", decomposed))
    assert found.samefile(root / decomposed)


@pytest.mark.parametrize("line", [b'{"id": 1}', b"\x80\x04N."])
def test_a_damaged_note_of_an_interrupted_index_is_named(root, line):
    (root / "notes").write_bytes(line + b"\n")
    with pytest.raises(InputError, match=r"/notes: damaged \(.*\); remove it and run again"):
        listing.index(Listing(root, ()), ("cat",), "train", root / "notes")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_size_is_that_of_the_upright_photograph(root, monkeypatch, suffix):
    monkeypatch.setattr(listing, "ordered_map", lambda call, items, workers: map(call, items))
    exif = Image.Exif()
    exif[0x0112] = 8
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    Image.fromarray(pixels).save(root / f"turned.{suffix}", exif=exif)
    images = (Listed("turned", f"turned.{suffix}", frozenset({"dog", "cat"})),)
    split = listing.index(Listing(root, images), ("cat", "emu"), "train", root / "notes")
    (photograph,) = split.photographs
    assert (photograph.height, photograph.width) == (7, 5)
    assert split.image(photograph).shape == (7, 5, 3)
    assert photograph.tags == ("cat",)
