"""Faults of real machines: one line says which, nothing on the shelf is half, and it goes on."""

import os
import resource
import shutil
import signal
import time
from functools import partial

import psutil
import pytest
from test_resume_images import stage, start, stores, waiting

import stages
from benchmarks.scaling import write_project
from pipeline.errors import InputError

IMAGES = 40


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A project in which `peaks` has run, undisturbed."""
    folder = tmp_path_factory.mktemp("done")
    write_project(folder, IMAGES)
    stage(folder, "peaks")
    return folder


@pytest.fixture
def project(done, tmp_path):
    """The same project before it ran."""
    folder = tmp_path / "project"
    shutil.copytree(done, folder, ignore=shutil.ignore_patterns("peaks", ".scratch"))
    return folder


def end(process):
    """What a stage that must fail said: one line, no traceback."""
    _, err = process.communicate()
    said = [line for line in err.splitlines() if line.startswith("peaks: ") and "/" in line]
    assert process.returncode == 1, err
    assert "Traceback" not in err
    return said[-1] if said else err


def goes_on(project, done):
    """The next run leaves what an undisturbed one leaves."""
    assert not (project / "data" / "peaks").exists()
    stage(project, "peaks")
    assert stores(project) == stores(done)


def test_a_full_disk(project, done):
    # No file may grow beyond this: as with a full disk, writing one ends with an error.
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    said = end(start(project, "peaks", preexec_fn=limit))
    assert "File too large; what was finished is kept: make room, run again" in said
    goes_on(project, done)


def test_a_worker_that_is_killed_for_memory(project, done):
    process = start(project, "peaks")
    while waiting(project, "peaks") < 1:
        time.sleep(0.01)
    # The workers are children of the server that forks them.
    inner = psutil.Process(process.pid).children(recursive=True)
    inner[-1].send_signal(signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1, err
    assert "peaks: a worker process was killed, most likely for want of memory" in err
    assert "WISE_WORKERS=1" in err
    assert waiting(project, "peaks")
    goes_on(project, done)


def test_a_corrupt_image_in_the_middle(project, done):
    broken = project / "photographs" / "20.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    said = end(start(project, "peaks"))
    assert "photographs/20.jpg: broken image" in said
    assert waiting(project, "peaks") == 20
    broken.write_bytes(whole)
    goes_on(project, done)


def test_two_runs_at_once(project, done):
    first = start(project, "peaks")
    while not list(project.glob(".scratch/peaks/*.lock")):
        time.sleep(0.01)
    said = end(start(project, "peaks"))
    assert "another run of this stage is at work in .scratch/peaks/" in said
    assert first.wait() == 0
    assert stores(project) == stores(done)


def test_the_shelf_is_whole_wherever_a_run_is_killed(tmp_path, monkeypatch):
    """Between any two steps of putting something on the shelf: the old, the new, or nothing."""
    place = tmp_path / "data" / "peaks"
    for steps in range(3):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        for folder, text in ((place, "old"), (tmp_path / "work" / "peaks", "new")):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "one").write_text(text)
            (folder / "two").write_text(text)
        rename, left = os.rename, [steps]

        def dying(source, target, rename=rename, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            rename(source, target)

        monkeypatch.setattr(os, "rename", dying)
        try:
            stages.shelve(tmp_path / "work" / "peaks", place)
        except KeyboardInterrupt:
            assert steps < 2
        monkeypatch.setattr(os, "rename", rename)
        found = sorted(file.read_text() for file in place.glob("*"))
        assert found == {0: ["old"] * 2, 1: [], 2: ["new"] * 2}[steps]
        if steps < 2:  # what was finished is there for the next run
            stages.shelve(tmp_path / "work" / "peaks", place)
            assert (place / "two").read_text() == "new"


def test_a_lock_of_a_killed_run_is_no_obstacle(project, monkeypatch):
    monkeypatch.chdir(project)
    with stages.scratch("peaks") as first:
        with pytest.raises(InputError, match="another run of this stage"):
            stages.scratch("peaks").__enter__()
        assert first.is_dir()
    with stages.scratch("peaks") as second:
        assert second == first
