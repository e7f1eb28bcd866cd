"""Run-length codes against plain arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.common import masks

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12))
MASKS = SHAPES.flatmap(lambda shape: arrays(bool, shape))
SHORT = settings(max_examples=50, deadline=None)


@SHORT
@given(MASKS)
def test_codes_keep_every_pixel(stack):
    rles = masks.encode(stack)
    np.testing.assert_array_equal(masks.decode(rles, *stack.shape[1:]), stack)
    assert masks.from_counts(masks.to_counts(rles), *stack.shape[1:]) == rles
    np.testing.assert_array_equal(masks.area(rles), stack.sum((1, 2)))


def test_many_masks_are_decoded_as_by_pycocotools():
    """More than are decoded at a time, of short runs and of long ones, some of them empty."""
    rng = np.random.default_rng(0)
    stack = rng.random((150, 30, 40)) < rng.choice([0, 0.02, 0.5, 0.999, 1], (150, 1, 1))
    rles = masks.encode(stack)
    np.testing.assert_array_equal(masks.decode(rles, 30, 40), stack)
    assert masks.decode([], 30, 40).shape == (0, 30, 40)


@pytest.mark.parametrize(
    "code", [b"", b"0 ", b"P", masks.encode(np.ones((1, 5, 6), bool))[0]["counts"]]
)
def test_a_code_of_something_else_is_refused(code):
    whole = masks.encode(np.ones((1, 5, 5), bool))[0]
    with pytest.raises(ValueError, match=r"run-length code"):
        masks.decode([whole, {"size": [5, 5], "counts": code}], 5, 5)


@SHORT
@given(MASKS, st.integers(0, 2**32 - 1))
def test_contains_is_the_pixel(stack, seed):
    _, height, width = stack.shape
    rng = np.random.default_rng(seed)
    points = np.stack([rng.integers(0, height, 5), rng.integers(0, width, 5)], 1)
    np.testing.assert_array_equal(
        masks.contains(masks.encode(stack), points), stack[:, points[:, 0], points[:, 1]]
    )


def union(first, second):
    return (first | second).sum()


def smaller(first, second):
    return min(first.sum(), second.sum())


@pytest.mark.parametrize(
    ("shares", "whole"),
    [(lambda rles: masks.iou(rles, rles), union), (masks.overlap_with_smaller, smaller)],
    ids=["jaccard", "overlap"],
)
@SHORT
@given(stack=MASKS)
def test_jaccard_is_intersection_over_union_and_overlap_over_the_smaller(shares, whole, stack):
    of_pairs = shares(masks.encode(stack))
    for i, first in enumerate(stack):
        for j, second in enumerate(stack):
            pixels = whole(first, second)
            expected = (first & second).sum() / pixels if pixels else 0
            np.testing.assert_allclose(of_pairs[i, j], expected)


def test_no_masks():
    assert masks.iou([], []).shape == (0, 0)
    assert masks.overlap_with_smaller([]).shape == (0, 0)
    assert masks.contains([], np.zeros((3, 2), int)).shape == (0, 3)
    assert masks.area([]).shape == (0,)
    assert masks.boxes([]).shape == (0, 4)


@pytest.mark.parametrize("count", [0, 1, 16, 17, 75])
def test_iou_of_pairs_is_the_iou_of_all_with_all(count):
    rng = np.random.default_rng(count)
    rles = masks.encode(rng.random((count, 9, 11)) < 0.3)
    np.testing.assert_array_equal(masks.iou_of_pairs(rles), masks.iou(rles, rles))
