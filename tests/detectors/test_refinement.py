import numpy as np
import pytest

from pipeline.artifacts.instances import Instances, InstanceWriter
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.common import masks
from pipeline.detectors.refinement import RefinementParameters, Refiner, refine

HEIGHT, WIDTH = 20, 30


def rectangles(rng, count):
    shapes = np.zeros((count, HEIGHT, WIDTH), bool)
    for shape in shapes:
        top, left = rng.integers(0, [HEIGHT - 4, WIDTH - 4])
        shape[top : top + rng.integers(2, 12), left : left + rng.integers(2, 12)] = True
    return shapes


def of(shapes, rng):
    """Instances of random labels, in descending order of score."""
    labels = rng.integers(0, 3, len(shapes)).astype(np.int16)
    scores = np.sort(rng.random(len(shapes), np.float32))[::-1]
    return Instances(masks.encode(shapes), labels, scores)


def proposals_of(shapes, rng):
    return Proposals(masks.encode(shapes), np.sort(rng.random(len(shapes), np.float32))[::-1])


def settings(objectness=0.0, similarity=0.0, max_overlap=1.0, support_weight=0.0, vote=False):
    return RefinementParameters(
        min_objectness=objectness,
        min_iou=similarity,
        max_overlap=max_overlap,
        support_weight=support_weight,
        vote=vote,
    )


def by_loop(shapes, candidates, objectness, minimum, least):
    refined = []
    for shape in shapes:
        best, highest = shape, 0.0
        for candidate, score in zip(candidates, objectness, strict=True):
            union = (shape | candidate).sum()
            similarity = (shape & candidate).sum() / union
            if score >= minimum and similarity > highest and similarity >= least:
                best, highest = candidate, similarity
        refined.append(best)
    return np.array(refined)


@pytest.mark.parametrize(("minimum", "least"), [(0.0, 0.0), (0.5, 0.0), (0.9, 0.0), (0.0, 0.4)])
def test_like_a_loop_over_decoded_masks(minimum, least):
    rng = np.random.default_rng(3)
    shapes, candidates = rectangles(rng, 12), rectangles(rng, 25)
    instances, proposals = of(shapes, rng), proposals_of(candidates, rng)
    refined = refine(instances, proposals, settings(minimum, least))
    expected = by_loop(shapes, candidates, proposals.score, minimum, least)
    np.testing.assert_array_equal(masks.decode(refined.masks, HEIGHT, WIDTH), expected)
    assert (expected != shapes).any()
    np.testing.assert_array_equal(refined.label, instances.label)
    np.testing.assert_array_equal(refined.score, instances.score)


def test_keeps_a_mask_that_no_proposal_overlaps():
    shapes = np.zeros((2, HEIGHT, WIDTH), bool)
    shapes[0, :5, :5] = shapes[1, 10:, 20:] = True
    candidates = np.zeros((1, HEIGHT, WIDTH), bool)
    candidates[0, :6, :6] = True
    rng = np.random.default_rng(0)
    refined = refine(of(shapes, rng), proposals_of(candidates, rng), settings())
    expected = np.stack([candidates[0], shapes[1]])
    np.testing.assert_array_equal(masks.decode(refined.masks, HEIGHT, WIDTH), expected)


@pytest.mark.parametrize(("predicted", "proposed"), [(0, 4), (4, 0), (0, 0)])
def test_nothing_to_refine_or_to_refine_by(predicted, proposed):
    rng = np.random.default_rng(1)
    instances = of(rectangles(rng, predicted), rng)
    refined = refine(instances, proposals_of(rectangles(rng, proposed), rng), settings())
    assert refined.masks == instances.masks


@pytest.mark.parametrize(("max_overlap", "kept"), [(1.0, [0, 1, 2, 3]), (0.6, [0, 2, 3])])
def test_copies_that_refinement_makes_are_suppressed(max_overlap, kept):
    """Halves of a proposal become the whole; a copy of another class and a mask beside stay."""
    shapes = np.zeros((4, HEIGHT, WIDTH), bool)
    shapes[0, :10, :5] = shapes[1, :10, 5:10] = shapes[2, :10, :5] = shapes[3, 15:, 20:] = True
    candidates = np.zeros((1, HEIGHT, WIDTH), bool)
    candidates[0, :10, :10] = True
    labels = np.array([0, 0, 1, 0], np.int16)
    instances = Instances(masks.encode(shapes), labels, np.linspace(0.9, 0.6, 4, dtype=np.float32))
    proposals = Proposals(masks.encode(candidates), np.ones(1, np.float32))
    refined = refine(instances, proposals, settings(max_overlap=max_overlap))
    expected = np.stack([*candidates[[0, 0, 0]], shapes[3]])[kept]
    np.testing.assert_array_equal(masks.decode(refined.masks, HEIGHT, WIDTH), expected)
    np.testing.assert_array_equal(refined.label, labels[kept])
    np.testing.assert_array_equal(refined.score, instances.score[kept])


@pytest.mark.parametrize("least", [0.2, 0.5])
def test_a_vote_is_like_a_loop_over_decoded_masks(least):
    rng = np.random.default_rng(5)
    shapes = rectangles(rng, 12)
    shifts = [(0, 1), (1, 0), (1, 1), (0, -1), (-1, 0), (2, 0)]
    candidates = np.concatenate([np.roll(shapes, shift, (1, 2)) for shift in shifts])
    instances, proposals = of(shapes, rng), proposals_of(candidates, rng)
    refined = refine(instances, proposals, settings(0.3, least, vote=True))
    expected = shapes.copy()
    for number, shape in enumerate(shapes):
        votes, total = shape * 1.0, 1.0
        for candidate, score in zip(candidates, proposals.score, strict=True):
            similarity = (shape & candidate).sum() / (shape | candidate).sum()
            if score >= 0.3 and similarity >= least:
                votes, total = votes + score * similarity * candidate, total + score * similarity
        expected[number] = votes >= total / 2
    assert (expected != shapes).any()
    np.testing.assert_array_equal(masks.decode(refined.masks, HEIGHT, WIDTH), expected)
    np.testing.assert_array_equal(refined.score, instances.score)


def test_without_a_similar_proposal_a_mask_stays():
    rng = np.random.default_rng(5)
    instances = of(rectangles(rng, 6), rng)
    proposals = proposals_of(rectangles(rng, 6), rng)
    refined = refine(instances, proposals, settings(similarity=1.0, vote=True))
    assert refined.masks == instances.masks


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_scores_are_weighted_by_the_support_of_the_proposals(weight):
    """Halves of a proposal, and a mask that no proposal supports, fall behind the proposal itself.

    A proposal of lower objectness that is more similar may support a mask less.
    """
    shapes = np.zeros((4, HEIGHT, WIDTH), bool)
    shapes[0, :10, :5] = shapes[1, 15:, 25:] = shapes[2, :10, :10] = shapes[3, 10:, :10] = True
    candidates = np.zeros((3, HEIGHT, WIDTH), bool)
    candidates[0, :10, :10] = candidates[1, :10, :5] = candidates[2, 10:, :5] = True
    instances = Instances(
        masks.encode(shapes), np.zeros(4, np.int16), np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    )
    proposals = Proposals(masks.encode(candidates), np.array([0.8, 0.25, 0.5], np.float32))
    refined = refine(instances, proposals, settings(similarity=1.0, support_weight=weight))
    supported = np.array([0.8, 0.4, 0.25, 0.0])
    expected = np.array([0.7, 0.9, 0.6, 0.8]) * supported**weight
    np.testing.assert_allclose(refined.score, expected, rtol=1e-6)
    assert refined.masks == [instances.masks[number] for number in (2, 0, 3, 1)]


def test_reads_what_the_stores_hold(tmp_path):
    rng = np.random.default_rng(2)
    instances = of(rectangles(rng, 5), rng)
    proposals = proposals_of(rectangles(rng, 9), rng)
    with InstanceWriter(tmp_path / "predictions", "predictions", ("a", "b", "c"), {}) as store:
        store.add("one", HEIGHT, WIDTH, instances)
    with ProposalWriter(tmp_path / "proposals", "sharpmask", "masks", {}) as store:
        store.add("one", HEIGHT, WIDTH, proposals)
    parameters = settings(0.5)
    refined = Refiner(tmp_path / "predictions", tmp_path / "proposals", parameters)("one")
    assert refined.masks == refine(instances, proposals, parameters).masks
