"""The detector's equations against NumPy and plain loops."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from pipeline.community.oicr import image_loss, pseudo_labels, refinement_loss, wsddn_scores

RNG = np.random.default_rng(0)
REGIONS, CLASSES = 13, 4
TAGS = np.array([True, False, True, False])


def softmax(values, axis):
    shifted = np.exp(values - values.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def logits(*shape):
    return RNG.normal(size=shape) * 3


def boxes(count):
    corner = RNG.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + RNG.uniform(5, 60, (count, 2))], 1)


def test_two_streams():
    first, second = logits(REGIONS, CLASSES), logits(REGIONS, CLASSES)
    got = wsddn_scores(torch.tensor(first), torch.tensor(second))
    np.testing.assert_allclose(got, softmax(first, 1) * softmax(second, 0), rtol=1e-12)
    of_image = got.sum(0)
    assert (of_image >= 0).all()
    assert (of_image <= 1).all()
    order = RNG.permutation(REGIONS)
    shuffled = wsddn_scores(torch.tensor(first[order]), torch.tensor(second[order]))
    torch.testing.assert_close(shuffled.sum(0), of_image)


def test_loss_of_the_image():
    scores = torch.tensor(softmax(logits(REGIONS, CLASSES), 0) / 2)
    expected = 0.0
    for label in range(CLASSES):
        score = float(sum(scores[:, label]))
        expected -= math.log(score) if TAGS[label] else math.log(1 - score)
    assert float(image_loss(scores, torch.tensor(TAGS))) == pytest.approx(expected, rel=1e-9)
    certain = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    assert torch.isfinite(image_loss(certain, torch.tensor(TAGS)))


def labels_by_a_loop(scores, iou, tags, foreground_iou, ignored_iou):
    seeds = []
    for label, tagged in enumerate(tags):
        if tagged:
            best = max(range(len(scores)), key=lambda region: scores[region][label])
            seeds.append((label + 1, best, scores[best][label]))
    rows = []
    for region in range(len(scores)):
        label, seed, score = max(seeds, key=lambda seed: iou[region][seed[1]])
        overlap = iou[region][seed]
        rows.append(
            (
                label if overlap >= foreground_iou else 0,
                score if overlap >= ignored_iou else 0.0,
                seed,
                overlap,
            )
        )
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("scores", [softmax(logits(REGIONS, CLASSES), 1), np.ones((13, 4)) / 4])
def test_pseudo_labels(scores):
    iou = box_iou(*[torch.tensor(boxes(REGIONS))] * 2).double()
    got = pseudo_labels(torch.tensor(scores), iou, torch.tensor(TAGS), 0.4, 0.15)
    expected = labels_by_a_loop(scores.tolist(), iou.tolist(), TAGS, 0.4, 0.15)
    for value, wanted in zip((got.label, got.weight, got.seed, got.overlap), expected, strict=True):
        np.testing.assert_allclose(value, wanted)
    assert set(got.label.tolist()) >= {0, 1}
    assert 0 in got.weight


def test_without_tags_all_is_background():
    scores = torch.full((3, CLASSES), 0.2)
    got = pseudo_labels(scores, torch.eye(3), torch.zeros(CLASSES, dtype=torch.bool), 0.5, 0.1)
    assert got.label.tolist() == [0, 0, 0]
    assert got.weight.tolist() == [1, 1, 1]
    assert got.overlap.tolist() == [0, 0, 0]


def test_loss_of_a_refinement_classifier():
    scores = softmax(logits(REGIONS, CLASSES), 1)
    iou = box_iou(*[torch.tensor(boxes(REGIONS))] * 2).double()
    pseudo = pseudo_labels(torch.tensor(scores), iou, torch.tensor(TAGS), 0.4, 0.1)
    given = logits(REGIONS, CLASSES + 1)
    expected = 0.0
    for region in range(REGIONS):
        for label in range(CLASSES + 1):
            one_hot = float(pseudo.label[region] == label)
            score = softmax(given[region], 0)[label]
            expected -= float(pseudo.weight[region]) * one_hot * math.log(score) / REGIONS
    assert float(refinement_loss(torch.tensor(given), pseudo)) == pytest.approx(expected, rel=1e-9)


def test_no_gradient_through_pseudo_labels():
    scores = torch.rand(REGIONS, CLASSES, requires_grad=True)
    iou = box_iou(*[torch.tensor(boxes(REGIONS))] * 2).float()
    pseudo = pseudo_labels(scores, iou, torch.tensor(TAGS), 0.5, 0.1)
    given = torch.randn(REGIONS, CLASSES + 1, requires_grad=True)
    refinement_loss(given, pseudo).backward()
    assert scores.grad is None
    assert given.grad is not None
