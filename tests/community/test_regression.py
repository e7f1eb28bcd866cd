"""The regressor against offsets by hand."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from pipeline.community.oicr import pseudo_labels
from pipeline.community.regression import box_offsets, moved_boxes, regression_loss

BOXES = torch.tensor(
    [[0.0, 0, 10, 20], [2, 0, 14, 20], [30, 30, 60, 50], [33, 28, 61, 52], [80, 0, 90, 9]]
).double()
TAGS = torch.tensor([True, True, False])
SCORES = torch.tensor(
    [[0.9, 0.1, 0.7], [0.2, 0.3, 0.2], [0.1, 0.8, 0.1], [0.3, 0.2, 0.6], [0.1, 0.1, 0.9]]
).double()


def offsets_by_hand(box, target):
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    of_target = target[2] - target[0], target[3] - target[1]
    return [
        10 * ((target[0] + target[2]) / 2 - x) / width,
        10 * ((target[1] + target[3]) / 2 - y) / height,
        5 * math.log(of_target[0] / width),
        5 * math.log(of_target[1] / height),
    ]


def test_offsets_and_their_round_trip():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (2, 9, 2))
    first, second = np.concatenate([corner, corner + rng.uniform(4, 50, (2, 9, 2))], 2)
    offsets = box_offsets(torch.tensor(first), torch.tensor(second))
    expected = [offsets_by_hand(*pair) for pair in zip(first, second, strict=True)]
    np.testing.assert_allclose(offsets, expected)
    np.testing.assert_allclose(moved_boxes(torch.tensor(first), offsets), second)


def smooth_l1(difference):
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def test_the_loss_and_that_it_knows_no_class():
    iou, predicted = box_iou(BOXES, BOXES), torch.randn(5, 4).double()
    pseudo = pseudo_labels(SCORES, iou, TAGS, 0.5, 0.0)
    expected = 0.0
    for region in range(5):
        best = max((0, 2), key=lambda seed: iou[region, seed])  # the top-scoring of each class
        if iou[region, best] > 0.5:
            wanted = offsets_by_hand(BOXES[region].tolist(), BOXES[best].tolist())
            pairs = zip(predicted[region].tolist(), wanted, strict=True)
            expected += sum(smooth_l1(given - wanted) for given, wanted in pairs)
    got = regression_loss(predicted, BOXES, pseudo, 0.5)
    assert float(got) == pytest.approx(expected / 5, rel=1e-9)
    order = [2, 1, 0]
    permuted = pseudo_labels(SCORES[:, order], iou, TAGS[order], 0.5, 0.0)
    assert not torch.equal(permuted.label, pseudo.label)
    assert torch.equal(regression_loss(predicted, BOXES, permuted, 0.5), got)


def test_nothing_to_regress_is_a_loss_of_0():
    pseudo = pseudo_labels(SCORES, box_iou(BOXES, BOXES), torch.zeros(3, dtype=torch.bool), 0.5, 0)
    assert regression_loss(torch.randn(5, 4), BOXES, pseudo, 0.5) == 0
