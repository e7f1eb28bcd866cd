import numpy as np
import pytest

from pipeline.artifacts.instances import Instances
from pipeline.common import masks
from pipeline.evaluation import intervals
from pipeline.evaluation.measures import average_precision
from pipeline.evaluation.protocols import Pair

SIDE, CLASSES, THRESHOLDS = 24, 3, (0.25, 0.5, 0.75)


def some(rng, corners, label):
    shapes = np.zeros((len(corners), SIDE, SIDE), bool)
    for shape, (y, x, side) in zip(shapes, corners, strict=True):
        shape[y : y + side, x : x + side] = True
    score = np.sort(rng.random(len(corners)).astype(np.float32))[::-1]
    return Instances(masks.encode(shapes), np.asarray(label, np.int16), score)


def squares(rng, count):
    """Top, left and side of squares, shape (count, 3)."""
    return np.c_[rng.integers(0, 13, (count, 2)), rng.integers(5, 8, count)]


def random_pair(rng):
    """True squares of two of three classes, some of them found, and some that are wrong."""
    true = squares(rng, rng.integers(0, 4))
    label = rng.integers(0, 2, len(true))
    wrong = squares(rng, rng.integers(0, 3))
    found = np.r_[true + rng.integers(0, 3, true.shape), wrong]
    labels = np.r_[label, rng.integers(0, CLASSES, len(wrong))]
    order = rng.permutation(len(found))
    return Pair(SIDE, SIDE, some(rng, true, label), some(rng, found[order], labels[order]))


def mean_by_pycocotools(pairs):
    of_masks, _, _ = average_precision(pairs, CLASSES, THRESHOLDS)
    known = of_masks[:, ~np.isnan(of_masks[0])]
    return known.mean(axis=1) if known.size else np.full(len(THRESHOLDS), np.nan)


@pytest.mark.parametrize("seed", range(5))
def test_a_resample_is_what_pycocotools_says_of_the_duplicated_images(seed):
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng) for _ in range(8)]
    _, _, matches = average_precision(pairs, CLASSES, THRESHOLDS)
    resamples = rng.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), size=12)
    resamples[0], resamples[1] = 1, 0
    found = intervals.resampled_mean(matches, resamples)
    for column, resample in zip(found.T, resamples, strict=True):
        repeated = [pair for pair, n in zip(pairs, resample, strict=True) for _ in range(n)]
        np.testing.assert_allclose(column, mean_by_pycocotools(repeated), rtol=0, atol=1e-9)


def test_resamples_are_the_same_every_time_and_as_large_as_the_set():
    resamples = intervals.draw_resamples(7)
    assert resamples.shape == (1000, 7)
    assert (resamples.sum(axis=1) == 7).all()
    assert (resamples == intervals.draw_resamples(7)).all()
    assert intervals.draw_resamples(0).shape == (1000, 0)


def test_an_interval_leaves_out_what_is_unknown():
    assert intervals.interval(np.append(np.linspace(0, 1, 101), np.nan)) == [2.5, 97.5]
    assert intervals.interval(np.full(3, np.nan)) is None


def test_a_difference_is_of_the_same_resamples():
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 1000))
    worse = intervals.Estimates({"coco": np.array([0.5])}, {"coco": 0.5 + noise})
    better = intervals.Estimates({"coco": np.array([0.53])}, {"coco": 0.53 + noise})
    found = intervals.differences({"prm": worse, "wise": better, "pseudo_masks": worse}, ["mAP50"])
    assert list(found) == ["wise - prm"]
    # Either interval is 40 points wide, that of the difference is sharp.
    assert found["wise - prm"]["coco"] == {"mAP50": 3.0, "mAP50_interval": [3.0, 3.0]}
