"""From `benchmarks/gpu.sh` to docs/performance.md."""

import os
import shutil
import subprocess
import sys

from benchmarks import peaks, section, training
from pipeline.dataset.scenes.files import draw_coco
from tests.support import ROOT
from tests.support.tiny import ARCHITECTURE


def test_the_script_writes_a_page_that_goes_into_the_documentation(tmp_path):
    for part in ("benchmarks", "pipeline", "stages", "wise", "tests", "presets"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "params.yaml"):
        shutil.copy(ROOT / file, tmp_path)
    environment = {**os.environ, "WISE_DEVICE": "cpu", "PYTHON": sys.executable}
    environment["PYTHONPATH"] = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    subprocess.run(
        ["bash", "benchmarks/gpu.sh", "--tiny"],
        cwd=tmp_path,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    page = (tmp_path / ".scratch" / "gpu" / "page.md").read_text()
    assert " passed" in page
    assert "draws for an image of 1,000 proposals" in page
    assert "status" not in page
    before = section.PAGE.read_text()
    after = section.replaced(before, page)
    assert page.strip() in after
    assert section.replaced(after, page) == after
    assert after.splitlines()[0] == before.splitlines()[0]
    assert after.splitlines()[-1] == before.splitlines()[-1]


def test_batches_of_two_sizes(tmp_path, monkeypatch):
    parameters = training._parameters().model_copy(update={"architecture": ARCHITECTURE})
    monkeypatch.setattr(training, "_parameters", lambda: parameters)
    monkeypatch.setattr(training, "LARGER_BATCH", 6)
    draw_coco(tmp_path / "source", 6, seed=0)
    training.write_stores(tmp_path, training.CLASSES)
    line = training.larger_batch(tmp_path)
    assert (line.job, line.peer) == ("a Mask R-CNN step, batch 6", "batch 4")
    assert line.ours > 0 < line.theirs


def test_two_processes(monkeypatch):
    monkeypatch.setattr(peaks, "SIDES", (64,))
    monkeypatch.setattr(peaks, "REPEATED", 2)
    line = peaks.two_processes()
    assert line.job.endswith("two processes")
    assert line.ours > 0 < line.theirs
