import numpy as np
import pytest

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import masks
from pipeline.detectors.mask_rcnn import rounds
from tests.support.mask_rcnn import parameters

HEIGHT, WIDTH = 12, 16


def square(top, left, side):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def found():
    """Make what the detector of a round finds: an object, and one that no proposal is like."""
    shapes = np.stack([square(2, 2, 8), square(9, 12, 2)])
    return Instances(masks.encode(shapes), np.zeros(2, np.int16), np.array([0.9, 0.8], np.float32))


def found_in(photographs):
    return [found() for _ in photographs]


@pytest.mark.parametrize(("least", "expected"), [(1.0, square(2, 2, 8)), (0.5, square(2, 2, 9))])
def test_between_rounds_proposals_vote_on_the_detections(tmp_path, monkeypatch, least, expected):
    """Two proposals are larger than the object; alone, neither has a majority."""
    monkeypatch.setenv("WISE_WORKERS", "1")
    monkeypatch.setattr(rounds, "Predictor", lambda *_: found_in)
    photograph = Photograph(
        id="a", file="a.png", sha256="", tags=("cat",), height=HEIGHT, width=WIDTH
    )
    split = Split(root=str(tmp_path), classes=("cat",), photographs=(photograph,))
    larger = masks.encode(np.stack([square(2, 2, 9)] * 2))
    with ProposalWriter(tmp_path / "proposals", "boxes", "none", {}) as writer:
        writer.add("a", HEIGHT, WIDTH, Proposals(larger, np.full(2, 0.9, np.float32)))
    (tmp_path / "round1").mkdir()
    voted = parameters(min_vote_iou=least)
    refined = rounds._detect(split, tmp_path / "round1", tmp_path / "proposals", voted)
    instances = refined.instances("a")
    np.testing.assert_array_equal(masks.decode(instances.masks, HEIGHT, WIDTH)[0], expected)
    assert instances.masks[1] == found().masks[1]
    assert instances.score.tolist() == found().score.tolist()
