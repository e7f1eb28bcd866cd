"""The dependencies of a stage, at its start and at its end."""

import json
import os
from pathlib import Path

import pytest

from pipeline.common.errors import InputError
from stages.common import scratch
from stages.common.scratch import check_inputs


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one stage that reads a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("reader: {path: photographs}\n")
    stage = {"cmd": "none", "deps": ["${reader.path}"], "params": ["reader"]}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"reader": stage}}))
    (tmp_path / "photographs" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "deep/c.jpg"):
        (tmp_path / "photographs" / name).write_text("old")
    return tmp_path


def test_files_with_the_same_size_and_times_are_not_read_again(project, monkeypatch):
    read = []
    monkeypatch.setattr(scratch, "_sha256", lambda file: read.append(str(file)) or "digest")
    with scratch.scratch("reader") as folder:
        assert read == ["photographs/a.jpg", "photographs/b.jpg", "photographs/deep/c.jpg"]
        os.utime("photographs/b.jpg")  # as a checkout does
        check_inputs(folder)
    assert read[3:] == ["photographs/b.jpg"]


def test_a_change_that_keeps_size_and_modification_time_is_found(project):
    file = Path("photographs/deep/c.jpg")
    with scratch.scratch("reader") as folder:
        status = file.stat()
        file.write_text("new")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        with pytest.raises(InputError, match=r"^photographs/deep/c\.jpg: changed while"):
            check_inputs(folder)


@pytest.mark.parametrize("name", ["photographs/a.jpg", "photographs/new.jpg"])
def test_a_file_that_is_removed_or_added_is_named(project, name):
    with scratch.scratch("reader") as folder:
        file = Path(name)
        file.unlink() if file.exists() else file.write_text("new")
        with pytest.raises(InputError, match=f"^{name}: changed while"):
            check_inputs(folder)
