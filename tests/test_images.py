"""Photographs of every kind, and files that are none."""

import numpy as np
import pytest
from PIL import Image

from pipeline import images
from pipeline.errors import InputError
from pipeline.images import read_image, warp


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.new("RGB", (7, 5), (200, 100, 50)).convert(mode).save(path)
    pixels = read_image(path)
    assert pixels.shape == (5, 7, 3)
    assert pixels.dtype == np.uint8


def test_exif_orientation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate by 90 degrees
    Image.new("RGB", (7, 5)).save(tmp_path / "image.jpg", exif=exif)
    assert read_image(tmp_path / "image.jpg").shape == (7, 5, 3)


def test_a_truncated_jpeg_is_named(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"image\.jpg: broken image"):
        read_image(path)


def test_other_files_are_named(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"text\.jpg: not an image"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(InputError, match=r"absent\.jpg: no such image"):
        read_image(tmp_path / "absent.jpg")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    Image.new("RGB", (11, 10)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match=r"bomb\.png: 11 x 10 pixels; at most 100 allowed"):
        read_image(tmp_path / "bomb.png")


def test_warping_forgets_proportions():
    assert warp(np.zeros((5, 9, 3), np.uint8), 4).shape == (4, 4, 3)
