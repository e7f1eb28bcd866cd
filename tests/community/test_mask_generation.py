"""Activation maps, their pooling and their threshold against NumPy and plain loops."""

import math

import numpy as np
import pytest
import torch

from pipeline.community.mask_generation import (
    ActivationMaps,
    above,
    gaussian_weights,
    mask_generation_loss,
    mean_maps,
    normalized_maps,
    weighted_gap,
)

RNG = np.random.default_rng(0)
LABELS = torch.tensor([2, 0, 1, 0, 2])


def softmax(values, axis):
    shifted = np.exp(values - values.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def test_weighted_gap():
    cells, sigma = 7, 0.3
    maps = RNG.normal(size=(2, 3, cells, cells))
    weights = np.zeros((cells, cells))
    for i in range(cells):
        for j in range(cells):
            y, x = (i - 3) / cells, (j - 3) / cells
            weights[i, j] = math.exp(-(x**2 + y**2) / (2 * sigma**2))
    expected = (maps * weights).sum((2, 3)) / weights.sum()
    got = weighted_gap(torch.tensor(maps), gaussian_weights(cells, sigma).double())
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)  # the weights are float32


def test_a_wide_gaussian_is_plain_gap():
    maps = torch.randn(2, 3, 28, 28)
    got = weighted_gap(maps, gaussian_weights(28, 1000.0))
    torch.testing.assert_close(got, maps.mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_smoothing_holds_peaks_back():
    features = torch.tensor([0.0, 1.0, 9.0]).view(1, 3, 1, 1).requires_grad_()
    maps = ActivationMaps(3, 2, smooth=True)
    torch.nn.init.ones_(maps.classifier.weight)
    scores = maps(features)
    expected = sum(math.log(1 + f) for f in (0, 1, 9))
    assert scores.flatten().tolist() == pytest.approx([expected] * 2)
    scores[0, 0, 0, 0].backward()
    assert features.grad.flatten().tolist() == pytest.approx([1, 1 / 2, 1 / 10])
    plain = ActivationMaps(3, 2, smooth=False)
    torch.nn.init.ones_(plain.classifier.weight)
    assert plain(features).flatten().tolist() == pytest.approx([10, 10])


@pytest.mark.parametrize("background", [True, False])
def test_loss_of_the_levels(background):
    logits = RNG.normal(size=(3, 5, 2 + background)) * 2
    regions = [r for r in range(5) if background or LABELS[r] > 0]
    expected = 0.0
    for level in range(3):
        for region in regions:
            scores = softmax(logits[level, region], 0)
            for number, score in enumerate(scores):
                label = int(LABELS[region]) - (not background)
                expected -= math.log(score) if number == label else math.log(1 - score)
    got = mask_generation_loss(list(torch.tensor(logits)), LABELS, background=background)
    assert float(got) == pytest.approx(expected / len(regions), rel=1e-9)


def test_no_logarithm_of_0():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    loss = mask_generation_loss([logits], torch.tensor([0, 0]), background=True)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[1] != 0).any()  # a wrong region learns, however certain it is


def test_only_background_without_its_class_is_a_loss_of_0():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = mask_generation_loss([logits], torch.tensor([0, 0]), background=False)
    assert loss == 0
    loss.backward()


@pytest.mark.parametrize("how", ["softmax", "max"])
def test_normalization(how):
    maps = RNG.normal(size=(2, 3, 4, 4))
    maps[0, 1] = -1  # a map without a positive value
    if how == "softmax":
        expected = softmax(maps, 1)
    else:
        highest = np.maximum(maps.max(axis=(2, 3), keepdims=True), 1e-300)
        expected = np.maximum(maps, 0) / highest
    got = normalized_maps(torch.tensor(maps), how)
    np.testing.assert_allclose(got, expected)
    assert got.min() >= 0
    assert got.max() <= 1


def test_generated_masks():
    """Eq. 1 by a loop; a cell at the threshold is outside."""
    levels = [torch.tensor(RNG.normal(size=(2, 3, 4, 4))) for _ in range(3)]
    mean = mean_maps(levels, "softmax")
    threshold = float(mean[1, 2, 0, 3])  # a tie
    got = above(mean, threshold)
    assert not got[1, 2, 0, 3]
    one_of_levels = [softmax(maps.numpy(), 1) for maps in levels]
    for place in np.ndindex(2, 3, 4, 4):
        average = sum(maps[place] for maps in one_of_levels) / 3
        assert got[place] == (average > threshold) or average == pytest.approx(threshold)
    assert got.any()
