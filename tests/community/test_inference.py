"""Detections of an untrained network."""

import numpy as np
import torch

from pipeline.common import masks, runtime
from pipeline.community.inference import CommunityPredictionsParameters, predict
from pipeline.community.network import Community
from tests.support.parameters import tiny_parameters
from tests.support.tiny import COMMUNITY as DESCRIPTION

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (60, 90, 3), np.uint8)
CORNERS = RNG.uniform(0, 40, (30, 2))
BOXES = torch.tensor(np.concatenate([CORNERS, CORNERS + RNG.uniform(8, 20, (30, 2))], 1)).float()


def network(**changed):
    runtime.seed_everything(0)
    architecture = DESCRIPTION.architecture.model_copy(update=changed)
    return Community(DESCRIPTION.model_copy(update={"architecture": architecture}), "none").eval()


def parameters(**changed):
    values = tiny_parameters()["community_predictions"]
    return CommunityPredictionsParameters.parse({**values, **changed}, "community_predictions")


BOXED = {"regression": False, "mask_generation": False, "segmentation": False}


def test_without_mask_generation_a_mask_is_its_box():
    found = predict(network(**BOXED), IMAGE, BOXES.round(), parameters(nms_threshold=1.0))
    assert len(found.masks) == len(BOXES)
    got = masks.boxes(found.masks)
    got[:, 2:] += got[:, :2]
    distance = np.abs(got[:, None] - BOXES.round().numpy()).max(2).min(1)
    assert distance.max() <= 1  # of the edges, which are pasted between pixels


def test_best_first_and_suppressed():
    net = network(**BOXED)
    found = predict(net, IMAGE, BOXES, parameters(nms_threshold=0.3, max_detections=5))
    assert 1 < len(found.masks) <= 5
    assert (np.diff(found.score) <= 0).all()
    for label in (0, 1):
        of_class = found.take(np.flatnonzero(found.label == label))
        iou = masks.iou(of_class.masks, of_class.masks)
        assert (np.triu(iou, 1) < 0.45).all()  # of boxes rounded to pixels
    least = float(found.score[1])
    fewer = predict(net, IMAGE, BOXES, parameters(nms_threshold=0.3, min_score=least))
    assert len(fewer.masks) == 2


def test_masks_lie_in_their_boxes_and_no_region_is_no_instance():
    net = network(mask_threshold=0.25)
    found = predict(net, IMAGE, BOXES, parameters(max_detections=7))
    assert 0 < len(found.masks) <= 7
    assert all(rle["size"] == [60, 90] for rle in found.masks)
    assert masks.area(found.masks).min() > 0
    assert predict(net, IMAGE, BOXES[:0], parameters()).masks == []


def test_two_views_of_one_size_are_one_view():
    net = network(mask_threshold=0.25)
    one = predict(net, IMAGE, BOXES, parameters(min_sizes=[64]))
    two = predict(net, IMAGE, BOXES, parameters(min_sizes=[64, 64]))
    np.testing.assert_allclose(one.score, two.score, rtol=1e-5)
    assert one.masks
    assert one.masks == two.masks
