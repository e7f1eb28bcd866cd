"""Per-image stages that are killed at any moment go on, and leave the bytes of one that was not."""

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.scaling import write_project

IMAGES = 60


def start(folder, name, preexec_fn=None, **environment):
    """Start a stage's script, in a session of its own."""
    settings = {**os.environ, "WISE_DEVICE": "cpu", "WISE_WORKERS": "2", "PYTHONPATH": ""}
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=folder,
        env=settings | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=preexec_fn,
    )


def stage(folder, name, **environment):
    """Run a stage's script to its end, and give what it said."""
    process = start(folder, name, **environment)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return err


def stores(folder):
    """Digests of all that the per-image stages left."""
    shelf = folder / "data"
    return {
        str(path.relative_to(shelf)): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in ("peaks", "proposals", "sampler", "predictions", "refinement")
        for path in sorted((shelf / name).rglob("*"))
        if path.is_file()
    }


def waiting(folder, name):
    """How many training images of a stage are safe in its scratch folder."""
    return len(list((folder / ".scratch" / name).rglob("train.images/*.safetensors")))


def killed_after(folder, name, images):
    """Start a stage and kill it, with its workers, some time after so many images are safe."""
    process = start(folder, name)
    while process.poll() is None and waiting(folder, name) < images:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.1))
    was_under_way = process.poll() is None
    if was_under_way:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return was_under_way


@pytest.mark.parametrize("name", ["peaks", "predictions"])
def test_a_stage_that_is_killed_goes_on_to_the_same_bytes(tmp_path, name):
    write_project(tmp_path, IMAGES)
    safe = [0]
    for images in (1, 20):
        assert killed_after(tmp_path, name, safe[-1] + images), "it was done before it was killed"
        assert not (tmp_path / "data" / name / "train").exists()
        safe.append(waiting(tmp_path, name))
        assert safe[-1] > safe[-2]
    said = stage(tmp_path, name)
    # The progress shows that what was safe has not been worked on again, nor the val images of
    # predictions, which come before those of train.
    assert sum(map(int, re.findall(r"/(\d+) in ", said))) == IMAGES * 9 // 10 - safe[-1]
    assert not list((tmp_path / ".scratch" / name).glob("*/"))
    resumed = stores(tmp_path)
    stage(tmp_path, name)
    assert stores(tmp_path) == resumed
