"""Training by two processes: the recipe of one, one set of files, one end."""

import re

import psutil
import pytest
import yaml

from tests.support.running import (
    TRAINING_STAGES,
    run_here,
    shelf,
    start,
    torchrun,
    wait_until,
)
from tests.support.training_project import make


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder for one process, one for two; three steps of three items, so uneven shares."""
    both = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for folder in both:
        make(folder, epochs=3, batch=3)
    return both


def losses(folder, stage):
    """The loss of every step, an epoch each, of every curve."""
    curves = sorted((folder / "data" / stage / "curves").rglob("metrics/loss.tsv"))
    assert curves
    rows = [line.split("\t") for path in curves for line in path.read_text().splitlines()[1:]]
    return [float(row[-1]) for row in rows]


@pytest.mark.parametrize("stage", TRAINING_STAGES)
def test_two_processes_follow_the_recipe_of_one(folders, stage):
    one, two = folders
    together = start(two, *torchrun(stage, 2), WISE_WORKERS="1")
    run_here(one, stage, WISE_WORKERS="1")
    said, _ = together.communicate()
    assert together.returncode == 0, said
    assert said.count(f"{stage}: ") == 1, said
    expected, got = losses(one, stage), losses(two, stage)
    assert got == pytest.approx(expected, rel=1e-4)
    assert shelf(one, stage).keys() == shelf(two, stage).keys()
    assert not list((two / ".scratch" / stage).rglob("*.pt"))


def test_a_lost_process_is_started_again(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        make(folder, epochs=10, batch=3)
    command = torchrun("prm", 2, "--max-restarts=1")
    own_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # as in docs/scaling.md
    together = start(two, *command, WISE_WORKERS="1", WISE_CHECKPOINT_SECONDS="0", **own_store)
    wait_until(lambda: any((two / ".scratch/prm").rglob("checkpoint.pt")), together)
    children = psutil.Process(together.pid).children()
    (second,) = [child for child in children if child.environ().get("RANK") == "1"]
    second.kill()
    said, _ = together.communicate()
    assert together.returncode == 0, said
    assert said.count("prm: 3 images") == 1, said
    run_here(one, "prm", WISE_WORKERS="1")
    assert losses(two, "prm") == pytest.approx(losses(one, "prm"), rel=1e-4)


def test_what_the_first_process_finds_between_rounds_all_are_trained_on(tmp_path):
    make(tmp_path, epochs=1, batch=3, rounds=2)
    together = start(tmp_path, *torchrun("mask_rcnn", 2), WISE_WORKERS="1")
    said, _ = together.communicate()
    assert together.returncode == 0, said
    assert said.count("mask_rcnn, detections: 3/3") == 1, said
    assert said.count("mask_rcnn: 3 images") == 1, said
    assert "data/mask_rcnn/weights.safetensors" in shelf(tmp_path, "mask_rcnn")


def test_a_loss_that_is_not_finite_ends_both_with_one_line(tmp_path):
    make(tmp_path, epochs=3, batch=3)
    file = tmp_path / "params.yaml"
    changed = yaml.safe_load(file.read_text())
    changed["prm"]["schedule"]["learning_rate"] = 1e30
    file.write_text(yaml.safe_dump(changed))
    together = start(tmp_path, *torchrun("prm", 2), WISE_WORKERS="1", WISE_CHECKPOINT_SECONDS="0")
    said, _ = together.communicate(timeout=300)
    assert together.returncode == 1, said
    (line,) = [line for line in said.splitlines() if line.startswith("prm: ")]
    assert re.fullmatch(r"prm: the loss of prm is no longer finite at step \d; lower.*", line)
    assert not shelf(tmp_path, "prm")
