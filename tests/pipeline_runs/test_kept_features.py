"""Features of a frozen backbone: computed once, however often the stage is killed or run."""

import os

import pytest
import yaml

from tests.support.running import kill_soon, run_here, script, shelf, start, wait_until
from tests.support.training_project import make


@pytest.fixture
def folders(tmp_path):
    """One folder for undisturbed runs, one for killed ones, both with a frozen backbone."""
    both = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in both:
        folder.mkdir()
        make(folder, epochs=2, batch=1)
        change(folder, backbone_lr_factor=0.0)
    return both


def change(folder, **schedule):
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    parameters["prm"]["schedule"] |= schedule
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))


def features(folder):
    return list((folder / ".scratch" / "prm").glob("*/features.float16"))


def test_killed_while_features_are_computed_ends_with_the_same_bytes(folders):
    undisturbed, killed = folders
    run_here(undisturbed, "prm")
    (expected,) = features(undisturbed)
    process = start(killed, *script("prm"), WISE_WORKERS="1", WISE_CHECKPOINT_SECONDS="0")
    wait_until(lambda: any(file.stat().st_size for file in features(killed)), process)
    kill_soon(process)
    (file,) = features(killed)
    os.truncate(file, expected.stat().st_size // 2)  # in the middle of the second photograph
    run_here(killed, "prm")
    assert file.read_bytes() == expected.read_bytes()
    assert shelf(killed, "prm") == shelf(undisturbed, "prm")


def test_a_run_with_another_schedule_finds_them(folders):
    folder, _ = folders
    run_here(folder, "prm")
    (file,) = features(folder)
    computed, first = file.stat().st_mtime_ns, shelf(folder, "prm")
    change(folder, epochs=3)
    run_here(folder, "prm")
    assert features(folder) == [file]
    assert file.stat().st_mtime_ns == computed
    assert shelf(folder, "prm") != first
    index = folder / "data" / "dataset" / "train.json"
    index.write_text(index.read_text().replace('"sha256": ""', '"sha256": "another"', 1))
    run_here(folder, "prm")
    assert len(features(folder)) == 2
