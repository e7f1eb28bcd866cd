"""Unfinished work of a stage: its lock, its removal, and the inputs that it belongs to."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.common.errors import InputError
from stages.common import scratch as module
from stages.common.scratch import check_inputs, scratch
from tests.support import ROOT


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
    monkeypatch.setattr(module, "_sha256", lambda file: read.append(str(file)) or "digest")
    with scratch("reader") as folder:
        assert read == ["photographs/a.jpg", "photographs/b.jpg", "photographs/deep/c.jpg"]
        os.utime("photographs/b.jpg")  # as a checkout does
        check_inputs(folder)
    assert read[3:] == ["photographs/b.jpg"]


def test_a_change_that_keeps_size_and_modification_time_is_found(project):
    file = Path("photographs/deep/c.jpg")
    with scratch("reader") as folder:
        status = file.stat()
        file.write_text("new")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        with pytest.raises(InputError, match=r"^photographs/deep/c\.jpg: changed while"):
            check_inputs(folder)


@pytest.mark.parametrize("name", ["photographs/a.jpg", "photographs/new.jpg"])
def test_a_file_that_is_removed_or_added_is_named(project, name):
    with scratch("reader") as folder:
        file = Path(name)
        file.unlink() if file.exists() else file.write_text("new")
        with pytest.raises(InputError, match=f"^{name}: changed while"):
            check_inputs(folder)


def aged(path, days):
    then = time.time() - 24 * 3600 * days
    for part in (path, *path.rglob("*")):
        os.utime(part, (then, then))


def test_abandoned_work_is_removed_after_two_weeks(project):
    stage = project / ".scratch" / "reader"
    for name, days in (("old", 15), ("new", 13), ("held", 15), ("empty", 15)):
        (stage / name / "train.images").mkdir(parents=True)
        (stage / name / "train.images" / "0").touch()
        (stage / f"{name}.lock").touch()
        aged(stage / name, days)
        aged(stage / f"{name}.lock", days)
    shutil.rmtree(stage / "empty")
    with FileLock(stage / "held.lock"):
        aged(stage / "held.lock", 15)
        with scratch("reader") as own:
            assert own.with_suffix(".lock").exists()
        assert sorted(path.name for path in stage.iterdir()) == [
            "held",
            "held.lock",
            "new",
            "new.lock",
        ]


@pytest.mark.parametrize("stage", sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py")))
def test_every_stage_checks_its_inputs_before_it_publishes(stage):
    script = (ROOT / "stages" / f"{stage}.py").read_text()
    assert 0 < script.find("    check_inputs(") < script.find("shelf.publish(")


def test_a_lock_of_a_killed_run_is_no_obstacle(project):
    with scratch("reader") as first:
        with pytest.raises(InputError, match="another run of this stage"):
            scratch("reader").__enter__()
        assert first.is_dir()
    with scratch("reader") as second:
        assert second == first
