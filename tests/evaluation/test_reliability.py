"""Shares of right detections by their score, and their distance from it."""

import math

import numpy as np
import pytest

from pipeline.evaluation.reliability import BINS, Curve, Reliability


def test_a_curve_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    score = rng.random(500).astype(np.float32)
    score[:2] = 0, 1
    right = rng.random(500) < score**2
    curve = Curve.of(score, right)
    error = 0.0
    for number in range(BINS):
        last = number == BINS - 1
        inside = (score * BINS >= number) & ((score * BINS < number + 1) | last)
        assert curve.detections[number] == inside.sum()
        assert curve.score[number] == pytest.approx(score[inside].mean(), abs=1e-4)
        assert curve.right[number] == pytest.approx(right[inside].mean(), abs=1e-4)
        error += inside.mean() * abs(score[inside].mean() - right[inside].mean())
    assert curve.error == pytest.approx(error, abs=1e-4)


def test_empty_bins_count_nothing():
    curve = Curve.of(np.array([0.75, 0.75], np.float32), np.array([True, False]))
    assert curve.detections == (*7 * (0,), 2, 0, 0)
    assert curve.right == (*7 * (None,), 0.5, None, None)
    assert curve.error == 0.25
    assert math.isnan(Curve.of(np.zeros(0, np.float32), np.zeros(0, bool)).error)


def test_curves_are_read_as_written(tmp_path):
    curve = Curve.of(np.array([0.1, 0.9], np.float32), np.array([False, True]))
    written = Reliability(curves={"wise": {"cat": curve}})
    written.write(tmp_path / "reliability.json")
    assert Reliability.read(tmp_path / "reliability.json") == written
