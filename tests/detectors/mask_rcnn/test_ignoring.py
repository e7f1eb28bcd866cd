import numpy as np
import torch

from pipeline.common import runtime
from pipeline.detectors.mask_rcnn.ignoring import ignore_possible_objects
from pipeline.detectors.mask_rcnn.network import MaskRcnn
from tests.support.tiny import MASK_RCNN as DESCRIPTION

REGIONS = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 4], [20, 20, 30, 30]])


def labels_after(labels, limit, *alternatives):
    label = torch.tensor(labels)
    target = {"alternatives": torch.tensor(alternatives, dtype=torch.float32).reshape(-1, 4)}
    ignore_possible_objects([label], [REGIONS], [target], limit)
    return label.tolist()


def test_background_on_possible_objects_is_ignored():
    whole = (0.0, 0, 10, 10)  # of IoU 1, 0.6, 0.4 and 0 with the regions
    assert labels_after([0, 0, 0, 0], 0.5, whole) == [-1, -1, 0, 0]
    assert labels_after([0, 0, 0, 0], 0.7, whole) == [-1, 0, 0, 0]
    assert labels_after([0, 0, 0, 0], 0.7, whole, (20, 20, 30, 30)) == [-1, 0, 0, -1]
    assert labels_after([2, 0, 0, -1], 0.5, whole) == [2, -1, 0, -1]  # objects stay objects
    assert labels_after([0, 0, 0, 0], 1.0, whole) == [0, 0, 0, 0]
    assert labels_after([0, 0, 0, 0], 0.5) == [0, 0, 0, 0]


def test_neither_the_rpn_nor_the_box_head_learns_from_them():
    """An alternative that covers the image: with limit 0 there is no background left."""
    shape = torch.zeros(1, 64, 64, dtype=torch.uint8)
    shape[:, 8:40, 8:40] = 1
    target = {
        "boxes": torch.tensor([[8.0, 8, 40, 40]]),
        "labels": torch.tensor([1]),
        "masks": shape,
        "alternatives": torch.tensor([[-200.0, -200, 264, 264]]),
    }
    drawn = {}
    for limit in (0.0, 1.0):
        runtime.seed_everything(0)
        network = MaskRcnn(DESCRIPTION, "none", max_background_iou=limit).train()
        terms = network.losses(torch.rand(1, 3, 64, 64), [(64, 64)], [target], [0])
        counts = [int(terms[name][1]) for name in ("loss_objectness", "loss_classifier")]
        objects = [int(part.fg_bg_sampler.drawn_positive) for part in (network.rpn, network.heads)]
        assert min(objects) > 0
        drawn[limit] = np.array(counts) - objects
        assert all(torch.isfinite(mean) for mean, _ in terms.values())
    assert drawn[0.0].tolist() == [0, 0]
    assert (drawn[1.0] > 0).all()
