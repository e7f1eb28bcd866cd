"""Training stages killed at random moments leave the bytes of those that were not."""

import pytest
from running import TRAINING_STAGES, kill_soon, run_here, script, shelf, start, wait_until
from training_project import make

KILLS = 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder for undisturbed runs, one for killed ones."""
    both = tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("killed")
    for folder in both:
        make(folder, epochs=2, batch=1, rounds=2, least_find=0.0)
    return both


def saved(folder, stage):
    """When the checkpoints of a stage were last written, nanoseconds; 0: never."""
    checkpoints = (folder / ".scratch" / stage).rglob("*.pt")
    return max((path.stat().st_mtime_ns for path in checkpoints), default=0)


@pytest.mark.parametrize("stage", TRAINING_STAGES)
def test_killed_anywhere_ends_with_the_same_bytes(folders, stage):
    undisturbed, killed = folders
    run_here(undisturbed, stage)
    for _ in range(KILLS):
        before = saved(killed, stage)
        process = start(killed, *script(stage), WISE_WORKERS="1", WISE_CHECKPOINT_SECONDS="0")
        wait_until(lambda before=before: saved(killed, stage) != before, process)
        kill_soon(process)
        assert not shelf(killed, stage)
    run_here(killed, stage)
    expected, got = shelf(undisturbed, stage), shelf(killed, stage)
    assert len(expected) > 3
    assert got == expected
    assert not list((killed / ".scratch" / stage).rglob("*.pt"))
