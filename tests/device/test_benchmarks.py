"""The benchmarks of networks on a pretend GPU, smaller."""

import pytest
import torch

from benchmarks import operations, paper, peaks, proposals, training
from pipeline.common import runtime
from pipeline.dataset.scenes.files import draw_coco
from tests.support.parameters import tiny_parameters
from tests.support.tiny import ARCHITECTURE, SHARPMASK
from wise.estimate import Settings
from wise.parameters import model


def test_peaks(gpu, monkeypatch):
    monkeypatch.setattr(peaks, "SIDES", (64,))
    monkeypatch.setattr(peaks, "side_by_side", once)
    monkeypatch.setattr(peaks, "two_processes", lambda: None)
    line, *_ = peaks.lines()
    assert "differ by" in line.note


def test_proposals(gpu, monkeypatch):
    monkeypatch.setattr(proposals, "HEIGHT", 48)
    monkeypatch.setattr(proposals, "WIDTH", 64)
    monkeypatch.setattr(proposals, "COUNT", 4)
    monkeypatch.setattr(proposals, "CONTEXT", 32)
    monkeypatch.setattr(proposals, "DESCRIPTION", SHARPMASK)
    monkeypatch.setattr(proposals, "side_by_side", once)
    assert next(proposals.lines()).job.startswith("4 SharpMask proposals")


@pytest.mark.parametrize("optimizations", [set(training.OPTIMIZATIONS[:3]), set()])
def test_a_step_of_the_detector(gpu, monkeypatch, tmp_path, optimizations):
    parameters = training._parameters().model_copy(update={"architecture": ARCHITECTURE})
    monkeypatch.setattr(training, "_parameters", lambda: parameters)
    draw_coco(tmp_path / "source", 1, seed=0)
    training.write_stores(tmp_path, training.CLASSES)
    training._stepper(training._batch(training._samples(tmp_path), 1), optimizations)()


def test_a_training_of_the_papers_setting(gpu, tmp_path):
    paper.write_photographs(tmp_path, tiny_parameters())
    assert paper.measure("mask_rcnn", tmp_path, tiny_parameters()).seconds > 0


def test_operations_of_a_matrix_product(gpu):
    layer = torch.nn.Linear(3, 5).to(runtime.device())
    vectors = torch.ones(7, 3).to(runtime.device())
    job = operations.Job("a product, copied to the host", 1, 6_000, lambda: layer(vectors).cpu())
    assert operations.counted(job) == (2, 1, {torch.float32: 7 * 3 * 5})
    counts = operations.Counts(1000, 100, {torch.float32: 10**9, torch.bfloat16: 10**9})
    # Launches take 6 ms, waits 2 ms, and arithmetic 0.1 ms at the same time as launches.
    expected = "1e+03 | 100 | 2 | 8 | launches | 6,000 | 0.8"
    assert operations.row(job, counts) == f"| {job.name} | {expected} |"


def test_operations_of_the_gradients_of_a_grouped_convolution(gpu):
    layer = torch.nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False).to(runtime.device())
    images = torch.ones(2, 6, 4, 5).to(runtime.device()).requires_grad_()
    job = operations.Job("a step", 2, 2, lambda: layer(images).sum().backward())
    assert operations.counted(job).multiply_adds == {torch.float32: 3 * 2 * 6 * 4 * 5 * 9}


def test_operations_of_every_stage(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(operations, "HEIGHT", 72)
    monkeypatch.setattr(operations, "WIDTH", 96)
    values, names = tiny_parameters(), Settings._fields
    values["community"]["enabled"] = True
    settings = Settings(**{name: model(name).parse(values[name], name) for name in names})
    split = operations.photographs(tmp_path)
    jobs = operations.jobs(split, settings, tmp_path)
    counts = {job.name: operations.counted(job) for job in jobs}
    assert len(counts) == 10
    assert all(of.kernels and sum(of.multiply_adds.values()) for of in counts.values())
    assert counts["peaks"].waits <= 4


def once(ours, theirs, runs):
    ours()
    theirs()
    return 1.0, 1.0
