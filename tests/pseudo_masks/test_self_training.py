"""What of a detector's finds the next round is trained on, and what it keeps."""

import numpy as np
import pytest

from pipeline.artifacts.instances import Instances, InstanceStore, InstanceWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import masks
from pipeline.pseudo_masks.self_training import Alternating, SelfTrainingMasks, TaggedDetections

CLASSES = ("cat", "dog", "cow")
SIDE = 20


def instances(*numbered):
    """One square for every (label, place)."""
    shapes = np.zeros((len(numbered), SIDE, SIDE), bool)
    for shape, (_, place) in zip(shapes, numbered, strict=True):
        shape[place : place + 3, place : place + 3] = True
    labels = np.array([label for label, _ in numbered], np.int16)
    scores = 0.4 * 0.7 ** np.arange(len(numbered), dtype=np.float32)
    return Instances(masks.encode(shapes), labels, scores)


class Drawn:
    """Pseudo masks that move with the epochs; the image `bare` has none."""

    def __contains__(self, image_id):
        return image_id != "bare"

    def instances(self, image_id, epoch):
        return instances((0, epoch), (1, epoch))

    def alternatives(self, image_id):
        return instances((0, 5), (1, 6))


@pytest.fixture
def relabelled(tmp_path):
    found = {
        "both": instances((0, 10), (0, 14), (0, 16), (1, 12)),  # the third is half as likely
        "cat": instances((0, 10), (2, 11)),
        "none": instances(),
        "bare": instances((1, 10)),
        "untagged": instances((0, 10)),
    }
    tags = {"both": CLASSES[:2], "cat": CLASSES[:2], "none": CLASSES[:2], "bare": CLASSES[1:2]}
    photographs = [
        Photograph(id=n, file=n, height=SIDE, width=SIDE, sha256="", tags=tags.get(n, ()))
        for n in found
    ]
    with InstanceWriter(tmp_path / "train", "mask_rcnn", CLASSES, {}) as store:
        for name, of_image in found.items():
            store.add(name, SIDE, SIDE, of_image)
    split = Split(root="/", classes=CLASSES, photographs=tuple(photographs))
    detections = TaggedDetections(split, InstanceStore(tmp_path / "train"), 0.6)
    return SelfTrainingMasks(detections, Drawn())


def described(shown):
    """Label and first row and column of every instance."""
    corners = masks.boxes(shown.masks)[:, 0].astype(int)
    return sorted(zip(shown.label.tolist(), corners.tolist(), strict=True))


def test_finds_take_the_place_of_the_draws_of_their_class(relabelled):
    assert described(relabelled.instances("both", 3)) == [(0, 10), (0, 14), (1, 12)]


def test_a_class_without_a_find_keeps_its_draws_and_one_without_a_tag_is_no_object(relabelled):
    shown = relabelled.instances("cat", 3)
    assert described(shown) == [(0, 10), (1, 3)]
    assert len(shown.masks) == len(shown.label) == len(shown.score)
    assert described(relabelled.instances("none", 5)) == [(0, 5), (1, 5)]


def test_an_image_counts_that_had_a_draw_or_has_a_find(relabelled):
    assert [name in relabelled for name in ("both", "none", "bare")] == [True, True, True]
    assert described(relabelled.instances("bare", 0)) == [(1, 10)]


def test_nothing_is_found_in_an_image_without_tags(relabelled):
    assert described(relabelled.instances("untagged", 4)) == [(0, 4), (1, 4)]


def test_possible_objects_are_weak_detections_and_earlier_masks(relabelled):
    assert described(relabelled.alternatives("both")) == [(0, 16)]
    assert described(relabelled.alternatives("cat")) == [(1, 6)]
    assert described(relabelled.alternatives("none")) == [(0, 5), (1, 6)]
    assert described(relabelled.alternatives("bare")) == []


def test_alone_detections_are_those_of_the_tags(relabelled):
    detections = relabelled._detections
    names = ("both", "cat", "none", "bare", "untagged")
    assert [name in detections for name in names] == [True, True, False, True, False]
    assert described(detections.instances("cat", 3)) == [(0, 10)]


def test_two_supervisions_in_turns(relabelled):
    turns = Alternating(Drawn(), relabelled._detections)
    assert described(turns.instances("cat", 2)) == [(0, 2), (1, 2)]
    assert described(turns.instances("cat", 3)) == [(0, 10)]
    # Of an image that one of them knows nothing of, the other is used.
    assert described(turns.instances("none", 3)) == [(0, 3), (1, 3)]
    assert described(turns.instances("bare", 2)) == [(1, 10)]
    assert "untagged" in turns
    assert described(turns.alternatives("both")) == [(0, 5), (0, 16), (1, 6)]
    assert described(turns.alternatives("bare")) == []
