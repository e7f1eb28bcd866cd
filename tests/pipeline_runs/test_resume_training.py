"""Training stages killed at random moments leave the bytes of those that were not."""

import shutil
from functools import partial

import pytest

from tests.support.running import kill_soon, run_here, script, shelf, start, wait_until
from tests.support.training_project import NAMES, enable, make, true_image, truth

# The checkpoint whose writing each kill waits for: of a stage of several trainings one of each.
KILLS = {
    "prm": ("checkpoint.pt", "checkpoint.pt"),
    "sharpmask": ("deepmask.pt", "sharpening.pt"),
    "community": ("checkpoint.pt", "checkpoint.pt"),
    "mask_rcnn": ("round1.pt", "round2.pt"),
    "mask_rcnn_gt": ("mask_rcnn_gt.pt", "mask_rcnn_gt.pt"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder for undisturbed runs, one for killed ones."""
    both = tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("killed")
    for folder in both:
        make(folder, epochs=2, batch=1, rounds=2, min_relative_score=0.0)
        enable(folder)
        index = folder / "data" / "dataset"
        shutil.copy(index / "train.json", index / "val.json")
        truth(*(true_image(name, 1) for name in NAMES)).write(index / "truth" / "train.json")
    return both


def saved(folder, stage, checkpoint):
    """When a checkpoint of a stage was last written, nanoseconds; 0: never."""
    found = (folder / ".scratch" / stage).glob(f"*/{checkpoint}")
    return max((path.stat().st_mtime_ns for path in found), default=0)


@pytest.mark.parametrize("stage", KILLS)
def test_killed_anywhere_ends_with_the_same_bytes(folders, stage):
    undisturbed, killed = folders
    run_here(undisturbed, stage)
    for checkpoint in KILLS[stage]:
        look = partial(saved, killed, stage, checkpoint)
        before = look()
        process = start(killed, *script(stage), WISE_WORKERS="1", WISE_CHECKPOINT_SECONDS="0")
        wait_until(lambda look=look, before=before: look() != before, process)
        kill_soon(process)
        assert not shelf(killed, stage)
    run_here(killed, stage)
    expected, got = shelf(undisturbed, stage), shelf(killed, stage)
    assert len(expected) > 3
    assert got == expected
    assert not list((killed / ".scratch" / stage).rglob("*.pt"))
