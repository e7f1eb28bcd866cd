"""Per-image stages that are killed at any moment go on, and leave the bytes of one that was not."""

import random
import re

import pytest

from tests.support.running import (
    copy_without,
    kill_soon,
    run_here,
    script,
    shelf,
    start,
    wait_until,
    waiting,
)
from tests.support.tiny import IMAGES, STAGES

VAL = IMAGES // 10
AFTER_TRAIN = {"proposals": VAL}  # images; other stages begin with val, or have none of it


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_that_is_killed_goes_on_to_the_same_bytes(undisturbed, tmp_path, name, capsys):
    folder = copy_without(undisturbed, tmp_path / "killed", name)
    safe = [0]
    for _ in range(2):
        least = safe[-1] + random.randint(1, 8)
        process = start(folder, *script(name))
        wait_until(lambda least=least: waiting(folder, name) >= least, process)
        kill_soon(process, within=0.01)
        assert not (folder / "data" / name).exists()
        safe.append(waiting(folder, name))
        assert safe[-1] > safe[-2]
    capsys.readouterr()
    run_here(folder, name)
    # The progress shows that what was safe has not been worked on again.
    worked_on = sum(map(int, re.findall(r"/(\d+) in ", capsys.readouterr().err)))
    assert worked_on == IMAGES - VAL - safe[-1] + AFTER_TRAIN.get(name, 0)
    assert not list((folder / ".scratch" / name).glob("*/"))
    assert shelf(folder, name) == shelf(undisturbed, name)
