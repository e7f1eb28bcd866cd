"""Photographs of every kind, and files that are none."""

import contextlib
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipeline.common import images
from pipeline.common.errors import InputError
from pipeline.common.images import read_image, warp
from tests.support import ROOT


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


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path, suffix):
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"grey.{suffix}")
    pixels = read_image(tmp_path / f"grey.{suffix}")
    assert (pixels == np.array([0, 0, 1, 128, 255], np.uint8)[None, :, None]).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_thirty_two_bits_are_refused(tmp_path, dtype):
    Image.fromarray(np.zeros((5, 7), dtype)).save(tmp_path / "depth.tiff")
    with pytest.raises(InputError, match=r"depth\.tiff: 32 bits per channel"):
        read_image(tmp_path / "depth.tiff")


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
    monkeypatch.setenv("WISE_MAX_MEGAPIXELS", "1")
    Image.new("L", (1001, 1000)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match=r"bomb\.png: 1001 x 1000 pixels; at most 1,000,000 are"):
        read_image(tmp_path / "bomb.png")
    monkeypatch.setenv("WISE_MAX_MEGAPIXELS", "2")
    assert read_image(tmp_path / "bomb.png").shape == (1000, 1001, 3)
    monkeypatch.setenv("WISE_MAX_MEGAPIXELS", "many")
    with pytest.raises(InputError, match="WISE_MAX_MEGAPIXELS=many: an integer of at least 1"):
        read_image(tmp_path / "bomb.png")


def test_a_webp_has_fewer_pixels_because_they_take_more_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("WISE_MAX_MEGAPIXELS", "1")
    for height in (750, 751):
        Image.new("RGB", (1000, height)).save(tmp_path / f"{height}.webp")
    assert read_image(tmp_path / "750.webp").shape == (750, 1000, 3)
    with pytest.raises(InputError, match=r"1000 x 751 pixels; at most 750,000 are allowed"):
        read_image(tmp_path / "751.webp")


def test_other_formats_are_not_opened(tmp_path):
    """Pillow would start Ghostscript for the first."""
    for kind in ("EPS", "PDF", "ICO", "TGA", "PCX"):
        Image.new("RGB", (9, 5)).save(tmp_path / "photo.jpg", kind)
        with pytest.raises(InputError, match=r"photo\.jpg: not an image \(BMP, GIF, JPEG"):
            read_image(tmp_path / "photo.jpg")


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "photo.jpg")
    with pytest.raises(InputError, match=r"photo\.jpg: not a regular file"):
        read_image(tmp_path / "photo.jpg")


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("strip", [1, 2**22])
def test_strips_and_orientations_are_those_of_pillow(tmp_path, monkeypatch, orientation, strip):
    monkeypatch.setattr(images, "_STRIP_PIXELS", strip)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.jpg", exif=exif)
    with Image.open(tmp_path / "image.jpg") as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "image.jpg"), expected)


def test_a_photograph_at_the_limit_takes_less_than_a_gigabyte(tmp_path):
    path = tmp_path / "large.jpg"
    Image.new("RGB", (10_000, 8_000), (200, 100, 50)).save(path, progressive=True)
    code = (
        "import resource, sys; from pathlib import Path; from pipeline.common import images;"
        "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "images.read_image(Path(sys.argv[1]));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True)
    assert int(done.stdout) < 1e6, done.stderr  # KiB


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["png", "jpeg", "tiff", "webp", "gif"]), st.data())
def test_any_bytes_are_an_image_or_a_clear_error(tmp_path, kind, data):
    content = io.BytesIO()
    Image.new("RGB", (9, 5), (200, 100, 50)).save(content, kind)
    broken = bytearray(content.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(broken) - 1), max_size=4)):
        broken[place] = data.draw(st.integers(0, 255))
    del broken[data.draw(st.integers(0, len(broken))) :]
    path = tmp_path / "image"
    path.write_bytes(broken)
    with contextlib.suppress(InputError):
        pixels = read_image(path)
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3


def test_warping_forgets_proportions():
    assert warp(np.zeros((5, 9, 3), np.uint8), 4).shape == (4, 4, 3)
