"""Faults of real machines: one line says which, nothing on the shelf is half, and it goes on."""

import importlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.common.errors import InputError
from stages.common.shelf import Shelf
from tests.support.running import (
    copy_without,
    run,
    run_here,
    script,
    shelf,
    start,
    wait_until,
    waiting,
)
from tests.support.training_project import make


@pytest.fixture
def project(undisturbed, tmp_path):
    """A project before `peaks` runs."""
    return copy_without(undisturbed, tmp_path / "project", "peaks")


def last_line(process):
    """What a stage that must fail said in the end: one line, no traceback."""
    said, _ = process.communicate()
    assert process.returncode == 1, said
    assert "Traceback" not in said
    return said.splitlines()[-1]


def goes_on(project, undisturbed):
    """The next run leaves what an undisturbed one leaves."""
    assert not (project / "data" / "peaks").exists()
    run_here(project, "peaks")
    assert shelf(project, "peaks") == shelf(undisturbed, "peaks")


def test_a_full_disk(project, undisturbed):
    # No file may grow beyond this: as with a full disk, writing one ends with an error.
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    said = last_line(start(project, *script("peaks"), preexec_fn=limit))
    assert said.startswith("peaks: ")
    assert said.endswith("File too large; finished work is kept: make room and run again")
    goes_on(project, undisturbed)


@pytest.fixture
def disk(tmp_path):
    """A small disk, which a test can fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("blocks", [0, 40])
def test_a_disk_that_is_full_from_the_start_or_after_some_images(undisturbed, disk, blocks):
    project = copy_without(undisturbed, disk / "project", "peaks")
    (project / ".scratch" / "peaks").mkdir(parents=True)
    others = disk / "other files"
    with others.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - blocks * 4096)
    with pytest.raises(OSError, match="No space left on device"):
        run_here(project, "peaks")
    assert bool(waiting(project, "peaks")) == bool(blocks)
    others.unlink()
    goes_on(project, undisturbed)


def test_a_worker_that_is_killed_for_memory(project, undisturbed):
    process = start(project, *script("peaks"))
    wait_until(lambda: waiting(project, "peaks"), process)
    # The workers are children of the server that forks them.
    inner = psutil.Process(process.pid).children(recursive=True)
    inner[-1].send_signal(signal.SIGKILL)
    said = last_line(process)
    assert said.startswith("peaks: a worker process was killed, most likely because memory ran out")
    assert said.endswith("WISE_WORKERS=1")
    assert waiting(project, "peaks")
    goes_on(project, undisturbed)


@pytest.mark.parametrize("stage", ["peaks", "mask_rcnn"])
def test_no_worker_outlives_a_killed_stage(undisturbed, tmp_path, stage):
    folder = tmp_path / "project"
    if stage == "peaks":
        copy_without(undisturbed, folder, stage)
    else:
        folder.mkdir()
        make(folder, epochs=1000, batch=1)
    process = start(folder, *script(stage), WISE_CHECKPOINT_SECONDS="0")
    begun = {"peaks": "train.images/*", "mask_rcnn": "round1.pt"}[stage]
    wait_until(lambda: any((folder / ".scratch" / stage).rglob(begun)), process)
    inner = psutil.Process(process.pid).children(recursive=True)
    assert len(inner) >= 3  # two workers, and the server that forks them
    process.kill()
    psutil.wait_procs(inner, timeout=10)
    alive = [left for left in inner if left.is_running() and left.status() != "zombie"]
    for left in alive:
        left.kill()
    process.communicate()
    assert not alive


def test_a_corrupt_image_in_the_middle(project, undisturbed):
    broken = project / "photographs" / "20.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"^photographs/20\.jpg: broken image"):
        run_here(project, "peaks")
    assert waiting(project, "peaks") == 20
    broken.write_bytes(whole)
    goes_on(project, undisturbed)


def test_two_runs_at_once(project, undisturbed):
    first = start(project, *script("peaks"))
    wait_until(lambda: list(project.glob(".scratch/peaks/*.lock")), first)
    with pytest.raises(InputError, match=r"another run of this stage is using \.scratch/"):
        run_here(project, "peaks")
    said, _ = first.communicate()
    assert first.returncode == 0, said
    assert shelf(project, "peaks") == shelf(undisturbed, "peaks")


def test_two_dvc_repro_at_once(project, undisturbed):
    run(project, "dvc", "init", "--no-scm", "--quiet")
    command = ("dvc", "repro", "--single-item", "peaks")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    first = start(project, *command, PATH=path, DVC_NO_ANALYTICS="1")
    wait_until(lambda: list(project.glob(".scratch/peaks/*/.inputs.json")), first)
    os.killpg(first.pid, signal.SIGSTOP)
    second = run(project, *command, check=False)
    os.killpg(first.pid, signal.SIGCONT)
    assert second.returncode
    assert "is busy" in second.stderr
    assert "Traceback" not in second.stdout + second.stderr
    said, _ = first.communicate()
    assert first.returncode == 0, said
    assert shelf(project, "peaks") == shelf(undisturbed, "peaks")


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
            Shelf(tmp_path).publish(tmp_path / "work" / "peaks", "peaks")
        except KeyboardInterrupt:
            assert steps < 2
        monkeypatch.setattr(os, "rename", rename)
        found = sorted(file.read_text() for file in place.glob("*"))
        assert found == {0: ["old"] * 2, 1: [], 2: ["new"] * 2}[steps]
        if steps < 2:  # what was finished is there for the next run
            Shelf(tmp_path).publish(tmp_path / "work" / "peaks", "peaks")
            assert (place / "two").read_text() == "new"


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        ("photographs/20.jpg", r"^photographs/20\.jpg: no such image"),
        ("data/prm/weights.safetensors", r"^data/prm/weights\.safetensors: "),
        ("data/dataset/train.json", r"^data/dataset/train\.json: changed while"),
        ("params.yaml", r"^params\.yaml: "),
    ],
)
def test_a_file_that_is_removed_while_a_stage_runs_is_named(
    project, undisturbed, monkeypatch, removed, named
):
    file, kept = project / removed, project / "kept"
    module = importlib.import_module("stages.peaks")
    fill = module.fill_together

    def remove(*arguments, **options):
        file.rename(kept)
        fill(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "fill_together", remove)
        with pytest.raises(InputError, match=named):
            run_here(project, "peaks")
    kept.rename(file)
    goes_on(project, undisturbed)


@pytest.mark.parametrize(
    ("edited", "named"),
    [
        ("stages/peaks.py", r"^stages/peaks\.py: changed while the stage was running"),
        ("params.yaml", r"^params\.yaml: peaks: changed while the stage was running"),
        (
            "data/dataset/train.json",
            r"^data/dataset/train\.json: changed while the stage was running",
        ),
    ],
)
def test_an_edit_while_a_stage_runs_ends_it(project, undisturbed, monkeypatch, edited, named):
    file = project / edited
    before = file.read_text()

    def edit(*_, **__):
        if edited == "params.yaml":
            parameters = yaml.safe_load(before)
            parameters["peaks"]["min_relative_height"] = 0.7
            file.write_text(yaml.safe_dump(parameters))
        else:
            file.write_text(before + "\n")

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("stages.peaks"), "fill_together", edit)
        with pytest.raises(InputError, match=named):
            run_here(project, "peaks")
    assert list(project.glob(".scratch/peaks/*/peaks"))
    file.write_text(before)
    goes_on(project, undisturbed)
