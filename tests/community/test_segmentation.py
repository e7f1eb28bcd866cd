"""The segmentation's loss and the ensemble against scalar loops."""

import math

import numpy as np
import pytest
import torch

from pipeline.community.mask_generation import above
from pipeline.community.segmentation import (
    SegmentationHead,
    ensemble,
    segmentation_loss,
    segmentation_target,
    upsample,
)

RNG = np.random.default_rng(0)
CLASSES, CELLS = 3, 4


def target():
    masks = torch.tensor(RNG.random((3, CELLS, CELLS)) < 0.5)
    return masks, segmentation_target(masks, torch.tensor([2, 0, 3]), CLASSES)


def test_targets():
    masks, placed = target()
    assert torch.equal(placed[0, 2].bool(), masks[0])
    assert torch.equal(placed[0, 0].bool(), ~masks[0])
    assert not placed[0, [1, 3]].any()
    assert (placed.sum(1) == 1).all()


def test_a_region_of_background_gives_no_mask():
    masks = torch.ones(2, CELLS, CELLS, dtype=torch.bool)
    placed = segmentation_target(masks, torch.tensor([0, 0]), CLASSES)
    assert (placed[:, 0] == 1).all()
    assert not placed[:, 1:].any()


def test_loss():
    _, placed = target()
    logits = RNG.normal(size=(3, CLASSES + 1, CELLS, CELLS)) * 2
    expected = 0.0
    for region in range(3):
        for i in range(CELLS):
            for j in range(CELLS):
                scores = [math.exp(logits[region, c, i, j]) for c in range(CLASSES + 1)]
                for c in range(CLASSES + 1):
                    s, m = scores[c] / sum(scores), float(placed[region, c, i, j])
                    expected -= m * math.log(s) + (1 - m) * math.log(1 - s)
    got = segmentation_loss(torch.tensor(logits), placed.double())
    assert float(got) == pytest.approx(expected / (3 * CELLS**2), rel=1e-9)


def test_no_logarithm_of_0():
    _, placed = target()
    logits = (1e4 * torch.randn(3, CLASSES + 1, CELLS, CELLS)).requires_grad_()
    loss = segmentation_loss(logits, placed)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_ensemble():
    """Eq. 10 by a loop; a cell at the threshold is outside."""
    generated, segmented = RNG.integers(0, 9, (2, 2, 5, 5)) / 8  # sums are exact: there are ties
    got = above(ensemble(torch.tensor(generated), torch.tensor(segmented)), 0.5)
    ties = 0
    for place in np.ndindex(2, 5, 5):
        average = (generated[place] + segmented[place]) / 2
        ties += average == 0.5
        assert got[place] == (average > 0.5)
    assert ties > 0


def test_the_first_convolution_commutes_with_upsampling():
    torch.manual_seed(0)
    head = SegmentationHead(6, 5, CLASSES + 1).double()
    features = torch.randn(2, 6, 4, 4).double()
    before, after = upsample(head.first(features), 28), head.first(upsample(features, 28))
    torch.testing.assert_close(head(before), head(after))
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in head.modules()) == 5 + 1
