"""Equation 1 by many draws, at both ends of the temperature, and where there is no choice."""

import numpy as np
import pytest
from scipy.stats import chisquare

from pipeline.artifacts.draws import Draws
from pipeline.artifacts.peaks import Points
from pipeline.artifacts.proposals import Proposals
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.pseudo_masks.sampler import SamplerParameters, agreed, draw, probabilities

OBJECTNESS = np.array([0.9, 0.6, 0.3, 0.15], np.float32)


def scene(points):
    """Four nested squares around the centre of a 40x40 image, and peaks of class 0."""
    squares = np.zeros((4, 40, 40), bool)
    for number, square in enumerate(squares):
        square[18 - 4 * number : 22 + 4 * number, 18 - 4 * number : 22 + 4 * number] = True
    y, x = np.array(points, np.int32).T
    count = len(points)
    peaks = Points(np.zeros(count, np.int16), y, x)
    return peaks, Proposals(masks.encode(squares), OBJECTNESS)


def parameters(temperature, epochs, agreement=0.0, max_overlap=1.0):
    return SamplerParameters(
        temperature=temperature,
        agreement_power=agreement,
        max_overlap=max_overlap,
        draws_per_peak=epochs,
        seed=0,
    )


def draws(temperature, epochs=20_000, points=((20, 20),), agreement=0.0):
    peaks, proposals = scene(points)
    settings = parameters(temperature, epochs, agreement)
    return draw(peaks, proposals, settings, np.random.default_rng(0))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_draws_follow_the_power_of_objectness(temperature):
    counts = np.bincount(draws(temperature).draw[0], minlength=4)
    expected = OBJECTNESS.astype(float) ** (1 / temperature)
    assert chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 1e-3


def test_the_chi_square_test_would_notice_another_temperature():
    counts = np.bincount(draws(0.8).draw[0], minlength=4)
    expected = OBJECTNESS.astype(float)
    assert chisquare(counts, expected / expected.sum() * counts.sum()).pvalue < 1e-9


def test_towards_0_the_most_object_like_and_large_is_uniform():
    assert (draws(1e-6, 100).draw == 0).all()
    counts = np.bincount(draws(1e6).draw[0], minlength=4)
    assert chisquare(counts).pvalue > 1e-3


def test_only_proposals_that_contain_the_peak():
    result = draws(1.0, 500, points=((20, 20), (12, 20), (0, 0)))
    assert [numbers.tolist() for numbers in result.candidate] == [[0, 1, 2, 3], [2, 3]]
    assert set(result.draw[1]) == {2, 3}
    for chances in result.probability:
        assert chances.sum() == pytest.approx(1)
    assert len(result.label) == 2  # the peak in the corner is in no proposal


def test_more_epochs_leave_the_first_as_they_were():
    np.testing.assert_array_equal(draws(1.0, 9).draw[:, :4], draws(1.0, 4).draw)


def test_every_epoch_is_a_fresh_draw():
    assert len(set(draws(1.0, 50).draw[0])) > 1


def test_an_image_without_proposals_or_peaks():
    peaks, proposals = scene([(20, 20)])
    rng = np.random.default_rng(0)
    assert draw(peaks, Proposals([], OBJECTNESS[:0]), parameters(1.0, 3), rng).draw.shape == (0, 3)
    nothing = Points(*(values[:0] for values in vars(peaks).values()))
    assert draw(nothing, proposals, parameters(1.0, 3), rng).draw.shape == (0, 3)


def test_objectness_of_0_is_never_drawn_unless_all_are():
    assert probabilities(np.array([0.0, 0.5]), 1.0).tolist() == [0, 1]
    assert probabilities(np.zeros(4), 1.0).tolist() == [0.25] * 4


def test_agreement_favours_what_the_draw_overlaps_on_average():
    """Squares of 4, 12, 20 and 28 pixels' side, by their areas."""
    result = draws(1.0, agreement=2.0)
    areas = (4 + 8 * np.arange(4.0)) ** 2
    similarity = np.minimum.outer(areas, areas) / np.maximum.outer(areas, areas)
    chances = OBJECTNESS / OBJECTNESS.sum()
    expected = [
        chances[i] * sum(chances[j] * similarity[i, j] for j in range(4)) ** 2 for i in range(4)
    ]
    np.testing.assert_allclose(result.probability[0], expected / np.sum(expected), rtol=1e-5)
    counts = np.bincount(result.draw[0], minlength=4)
    assert chisquare(counts, expected / np.sum(expected) * counts.sum()).pvalue > 1e-3


def test_any_power_of_agreement_leaves_probabilities():
    similarity = np.array([[1.0, 0.9, 0.01], [0.9, 1.0, 0.01], [0.01, 0.01, 1.0]])
    chances = agreed(np.array([0.3, 0.3, 0.4]), similarity, 1e4)
    np.testing.assert_allclose(chances, [0.5, 0.5, 0.0])


def test_pseudo_masks_of_an_epoch_count_a_proposal_once_per_class():
    peaks, proposals = scene([(20, 20), (19, 19)])
    result = draw(peaks, proposals, parameters(1e-6, 1), np.random.default_rng(0))
    instances = result.instances(proposals, epoch=0)
    assert instances.masks == [proposals.masks[0]]
    assert instances.score.tolist() == pytest.approx([0.9])


def two_objects():
    """A body with its head, objectness 0.6 and 0.9, and beside them another object, 0.3.

    The peaks are on the body, on its head, on the other object, and, of another class, on the body.
    """
    shapes = np.zeros((3, 40, 40), bool)
    shapes[0, 0:4, 0:4] = True
    shapes[1, 0:20, 0:20] = True
    shapes[2, 30:40, 30:40] = True
    objectness = np.array([0.9, 0.6, 0.3], np.float32)
    y, x = np.array([(10, 10), (1, 1), (35, 35), (12, 12)], np.int32).T
    return Points(np.array([0, 0, 0, 1], np.int16), y, x), Proposals(
        masks.encode(shapes), objectness
    )


@pytest.mark.parametrize(
    ("max_overlap", "kept"), [(1.0, [True] * 4), (0.6, [False, True, True, True])]
)
def test_of_peaks_on_one_object_the_best_is_kept(max_overlap, kept):
    peaks, proposals = two_objects()
    settings = parameters(1.0, 5, max_overlap=max_overlap)
    result = draw(peaks, proposals, settings, np.random.default_rng(0))
    assert result.kept.tolist() == kept
    for epoch in range(5):
        used = {(0, result.draw[peak, epoch]) for peak in range(3) if kept[peak]}
        instances = result.instances(proposals, epoch)
        numbers = [proposals.masks.index(mask) for mask in instances.masks]
        assert {*zip(instances.label, numbers, strict=True)} == {*used, (1, 1)}


def test_which_peaks_are_kept_changes_no_draw():
    peaks, proposals = two_objects()
    all_peaks, some = (
        draw(peaks, proposals, parameters(1.0, 5, 0.0, limit), np.random.default_rng(0))
        for limit in (1.0, 0.0)
    )
    np.testing.assert_array_equal(all_peaks.draw, some.draw)
    nothing = draw(
        Points(*(values[:0] for values in vars(peaks).values())),
        proposals,
        parameters(1.0, 5, max_overlap=0.6),
        np.random.default_rng(0),
    )
    assert nothing.kept.shape == (0,)


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_a_temperature_without_meaning_says_how_to_ask_for_the_argmax(temperature):
    values = {"temperature": temperature, "agreement_power": 0.0, "max_overlap": 1.0}
    values |= {"draws_per_peak": 1, "seed": 0}
    with pytest.raises(
        InputError, match=r"sampler\.temperature = .*above 0.*1e-6 .*highest objectness"
    ):
        SamplerParameters.parse(values, "sampler")


def test_likely_candidates_are_possible_objects():
    shapes = np.zeros((4, 8, 8), bool)
    for number, shape in enumerate(shapes):
        shape[: number + 1] = True
    proposals = Proposals(masks.encode(shapes), np.array([0.9, 0.8, 0.7, 0.6], np.float32))
    draws = Draws(
        label=np.array([1, 0, 1], np.int16),
        candidate=[np.array(numbers, np.int32) for numbers in ([0, 1, 2], [2, 3], [1, 2])],
        probability=[np.array(c, np.float32) for c in ([0.4, 0.5, 0.1], [0.3, 0.7], [0.6, 0.4])],
        draw=np.array([[2], [2], [1]], np.int32),
        kept=np.array([True, True, False]),
    )
    likely = draws.likely(proposals)
    assert likely.label.tolist() == [0, 1, 1]
    assert masks.area(likely.masks).tolist() == [32, 8, 16]
    np.testing.assert_array_equal(likely.score, proposals.score[[3, 0, 1]])


def test_agreement_is_the_mean_overlap_with_what_is_drawn():
    shapes = np.zeros((3, 8, 8), bool)
    for number, shape in enumerate(shapes):
        shape[: 2 * number + 2] = True  # 16, 32 and 48 pixels, one inside the other
    proposals = Proposals(masks.encode(shapes), np.array([0.9, 0.8, 0.7], np.float32))
    drawn = np.array([[0, 0, 0, 1], [2, 2, 2, 2], [0, 0, 0, 0], [1, 1, 1, 1]], np.int32)
    nothing = [np.empty(0, np.int32)] * 4
    kept = np.array([True, True, True, False])
    label = np.array([0, 1, 0, 1], np.int16)
    draws = Draws(label, nothing, [np.empty(0, np.float32)] * 4, drawn, kept)
    instances = draws.instances(proposals, epoch=0)
    assert list(zip(instances.label, instances.score.round(1), strict=True)) == [
        (0, pytest.approx(0.9)),
        (1, pytest.approx(0.7)),
    ]
    # The first peak draws another proposal in one of four epochs; the third, the same, does not.
    assert draws.agreement(proposals, epoch=0).tolist() == [1, 1]
    alone = Draws(label, nothing, draws.probability, drawn, kept & [True, True, False, False])
    assert alone.agreement(proposals, epoch=0).tolist() == pytest.approx([0.875, 1])
    assert alone.agreement(proposals, epoch=3).tolist() == pytest.approx([0.625, 1])
