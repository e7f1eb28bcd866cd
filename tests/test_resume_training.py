"""Training stages killed at random moments leave the bytes of those that were not."""

import os
import random
import signal
import time

import pytest
from training_project import TRAINING_STAGES, make, run_here, script, shelved, start

KILLS = 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder for undisturbed runs, one for killed ones."""
    both = tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("killed")
    for folder in both:
        make(folder, epochs=2, batch=1)
    return both


def saved(folder, stage):
    """When the checkpoints of a stage were last written, nanoseconds; 0: never."""
    checkpoints = (folder / ".scratch" / stage).rglob("*.pt")
    return max((path.stat().st_mtime_ns for path in checkpoints), default=0)


def kill_after_a_checkpoint(folder, stage, rng):
    """Let a run save once at least, and end it and its workers a moment later."""
    before = saved(folder, stage)
    process = start(folder, *script(stage), WISE_CHECKPOINT_SECONDS="0")
    while process.poll() is None and saved(folder, stage) == before:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.1))
    assert process.poll() is None, process.stdout.read()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("stage", TRAINING_STAGES)
def test_killed_anywhere_ends_with_the_same_bytes(folders, stage, monkeypatch):
    undisturbed, killed = folders
    run_here(undisturbed, stage, monkeypatch)
    rng = random.Random(stage)
    for _ in range(KILLS):
        kill_after_a_checkpoint(killed, stage, rng)
        assert not shelved(killed, stage)
    last = start(killed, *script(stage))
    said, _ = last.communicate()
    assert last.returncode == 0, said
    expected, got = shelved(undisturbed, stage), shelved(killed, stage)
    assert len(expected) > 3
    assert got == expected
    assert not list((killed / ".scratch" / stage).rglob("*.pt"))
