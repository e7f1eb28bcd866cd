"""Output folders and names that cannot be written: one line, and what is finished is kept."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.instances import Instances
from pipeline.common import files, masks
from wise import main
from wise.predict import Format, write_all

RLE = masks.encode(np.ones((1, 6, 8), bool))


def found(_):
    return Instances(RLE, np.zeros(1, np.int16), np.ones(1, np.float32))


@pytest.fixture
def photograph(tmp_path):
    def photograph(name):
        path = tmp_path / name
        Image.new("RGB", (8, 6)).save(tmp_path / "any.png")
        os.rename(tmp_path / "any.png", path)
        return path

    return photograph


@pytest.fixture
def predict(tmp_path):
    def predict(*paths):
        wanted = [Format.OVERLAY, Format.COCO]
        return write_all(found, paths, ("cat",), wanted, tmp_path / "out")

    return predict


def written(folder):
    document = json.loads((folder / "out" / "coco" / "annotations.json").read_text())
    return [image["file_name"] for image in document["images"]]


def test_long_names_and_names_that_are_no_utf8(photograph, predict, tmp_path):
    names = ["x" * 249 + ".jpg", os.fsdecode(b"caf\xe9.png"), "\u732b.png"]
    paths = [photograph(name) for name in names]
    assert predict(*paths) == (3, [])
    assert written(tmp_path) == list(map(str, paths))
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 3


def test_a_name_too_long_for_its_results_is_reported_and_the_rest_is_written(
    photograph, predict, tmp_path, capsys
):
    # Two stems that are alike get a number, for which there is no room.
    long = [photograph("x" * 251 + suffix) for suffix in (".jpg", ".bmp")]
    instances, unreadable = predict(*long, photograph("a.jpg"))
    assert instances == 1
    assert unreadable == list(map(str, long))
    said = capsys.readouterr().err.splitlines()
    assert sum("no results written: File name too long" in line for line in said) == 2
    assert written(tmp_path) == [str(tmp_path / "a.jpg")]


def test_what_is_finished_is_written_before_an_error_ends_the_command(
    photograph, predict, tmp_path, monkeypatch
):
    good, bad = photograph("a.jpg"), photograph("b.jpg")
    save = files.write_bytes

    def full(path: Path, content: bytes) -> None:
        if path.name == "b.png":
            raise OSError(28, "No space left on device", str(path))
        save(path, content)

    monkeypatch.setattr(files, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        predict(good, bad)
    assert written(tmp_path) == [str(good)]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            NotADirectoryError(20, "Not a directory", "a.txt/out"),
            "wise: a.txt/out: Not a directory",
        ),
        (FileExistsError(17, "File exists", "a.txt"), "wise: a.txt: File exists"),
        (PermissionError(13, "Permission denied", "a\nb"), r"wise: a\nb: Permission denied"),
        (OSError(28, "No space left on device"), "wise: No space left on device"),
    ],
)
def test_an_error_of_the_file_system_is_one_line(monkeypatch, error, line):
    def failing():
        raise error

    monkeypatch.setattr("wise.app", failing)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == line
