"""Files that a dataset names: one function opens them, and none is outside its folder."""

import os

import pytest

from pipeline.common import files
from pipeline.common.errors import InputError


def test_a_file_has_a_largest_size(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "a", 5, "missing") == b"12345"
    with pytest.raises(InputError, match="a: more than 0 KiB, the most allowed"):
        files.read_bytes(tmp_path / "a", 4, "missing")


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "cannot be read"),
        (tmp_path / "none", "none: missing"),
        (tmp_path / "a\0b", "cannot be read"),
        (tmp_path / ("n" * 300), "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            files.read_bytes(path, 9, "missing")


def test_a_device_is_refused():
    with pytest.raises(InputError, match="/dev/zero: not a regular file"):
        files.open_file("/dev/zero", "missing")
