import numpy as np
import pytest

from pipeline.common import masks
from pipeline.proposals.grouping import (
    _RULES,
    GroupingParameters,
    _borders,
    _common_cells,
    _diversified,
    _edges,
    _lab,
    _merged,
    _partition,
    _texture,
    propose,
)

PARAMETERS = GroupingParameters(
    image_size=200,
    color_spaces=("lab", "hsv"),
    scales=(50.0,),
    min_superpixel_area=20,
    min_area=0.002,
    paired_regions=10,
)


@pytest.fixture(scope="module")
def scene():
    """Two discs, one of them of two colors, on noise; with the masks of both."""
    rng = np.random.default_rng(0)
    image = rng.integers(90, 120, (150, 200, 3)).astype(np.uint8)
    y, x = np.mgrid[:150, :200]
    plain = np.hypot(y - 50, x - 50) < 30
    halved = np.hypot(y - 90, x - 140) < 35
    image[plain] = (200, 40, 40)
    image[halved & (y < 90)] = (30, 60, 200)
    image[halved & (y >= 90)] = (240, 230, 40)
    return image, np.stack([plain, halved])


def test_objects_are_found_at_the_images_size(scene):
    image, truth = scene
    proposals = propose(image, PARAMETERS, 100)
    assert 0 < len(proposals.masks) <= 100
    assert all(rle["size"] == [150, 200] for rle in proposals.masks)
    assert proposals.score.dtype == np.float32
    assert np.all(np.diff(proposals.score) <= 0)
    assert np.all((proposals.score > 0) & (proposals.score <= 1))
    similarity = masks.iou(masks.encode(truth), proposals.masks)
    assert similarity.max(axis=1).min() > 0.9
    assert similarity[0].argmax() < 10


def test_few_are_the_first_of_many(scene):
    image, _ = scene
    few, many = propose(image, PARAMETERS, 10), propose(image, PARAMETERS, 50)
    assert few.masks == many.masks[:10]
    assert few.score.tobytes() == many.score[:10].tobytes()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (5, 7, 3), (90, 60, 3)])
def test_an_image_of_one_color_has_no_objects(shape):
    proposals = propose(np.full(shape, 99, np.uint8), PARAMETERS, 10)
    assert proposals.masks == []
    assert proposals.score.shape == (0,)


def test_borders_are_counted_pixel_by_pixel():
    rng = np.random.default_rng(0)
    label, edges = rng.integers(0, 4, (9, 11)), rng.integers(0, 100, (9, 11))
    length, strength = np.zeros((2, 4, 4))
    for y, x in np.ndindex(9, 11):
        for v, u in ((y + 1, x), (y, x + 1)):
            if v < 9 and u < 11 and label[y, x] != label[v, u]:
                a, b = label[y, x], label[v, u]
                length[[a, b], [b, a]] += 1
                strength[[a, b], [b, a]] += max(edges[y, x], edges[v, u])
    found = _borders(label, edges, 4)
    np.testing.assert_array_equal(found[0], length)
    np.testing.assert_array_equal(found[1], strength)


@pytest.mark.parametrize("rule", _RULES)
def test_merging_makes_a_tree_of_connected_regions(scene, rule):
    image, _ = scene
    small = image[::2, ::2]
    lab = _lab(small)
    partition = _partition(lab, 50.0, PARAMETERS, _edges(lab), _texture(lab))
    regions = _merged(partition, rule)
    n = len(partition.area)
    assert regions.shape == (n - 1, n)
    assert regions[-1].all()
    known = {frozenset([k]) for k in range(n)}
    for region in regions:
        members = frozenset(np.flatnonzero(region).tolist())
        # Two regions that were there, and touch, became one.
        parts = [(part, members - part) for part in known if part < members]
        (one, other) = next((a, b) for a, b in parts if b in known)
        assert partition.border[np.ix_(sorted(one), sorted(other))].any()
        known = (known - {one, other}) | {members}
    assert len(known) == 1


def test_regions_of_two_partitions_are_sets_of_common_cells():
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, n, (8, 9)) for n in (3, 5)]
    regions = [rng.random((4, n)) < 0.5 for n in (3, 5)]
    cells, members, area = _common_cells(labels, regions)
    expected = np.concatenate([r[:, label] for label, r in zip(labels, regions, strict=True)])
    np.testing.assert_array_equal(members[:, cells], expected)
    np.testing.assert_array_equal(members @ area, expected.sum(axis=(1, 2)))


def test_what_resembles_a_better_one_comes_later():
    # Of three regions the second is nearly the first, the fourth is the first again.
    members = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]], bool)
    area = np.array([4, 4, 1, 4], np.float32)
    score = np.array([0.9, 0.8, 0.5, 0.9], np.float32)
    order, scores = _diversified(members, area, score, 4)
    assert order.tolist() == [0, 2, 1]
    assert scores[0] == np.float32(0.9)
    assert np.all(np.diff(scores) < 0)
