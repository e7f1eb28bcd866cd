"""Per-image stages that are killed at any moment go on, and leave the bytes of one that was not."""

import re

import pytest
from running import IMAGES, copy_without, kill_soon, run_here, script, shelf, start, wait_until

VAL = IMAGES // 10


def waiting(folder, name):
    """How many training images of a stage are safe in its scratch folder."""
    return len(list((folder / ".scratch" / name).rglob("train.images/*.safetensors")))


@pytest.mark.parametrize(
    ("name", "after_train"), [("peaks", 0), ("proposals", VAL), ("predictions", 0)]
)
def test_a_stage_that_is_killed_goes_on_to_the_same_bytes(
    undisturbed, tmp_path, name, after_train, capsys
):
    folder = copy_without(undisturbed, tmp_path / "killed", name)
    safe = [0]
    for images in (1, 20):
        process = start(folder, *script(name))
        wait_until(lambda least=safe[-1] + images: waiting(folder, name) >= least, process)
        kill_soon(process)
        assert not (folder / "data" / name).exists()
        safe.append(waiting(folder, name))
        assert safe[-1] > safe[-2]
    capsys.readouterr()
    run_here(folder, name)
    # The progress shows that what was safe has not been worked on again.
    worked_on = sum(map(int, re.findall(r"/(\d+) in ", capsys.readouterr().err)))
    assert worked_on == IMAGES - VAL - safe[-1] + after_train
    assert not list((folder / ".scratch" / name).glob("*/"))
    assert shelf(folder, name) == shelf(undisturbed, name)
