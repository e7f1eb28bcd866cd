"""Failure analysis: the first stage that went wrong for each true instance."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.artifacts.draws import Draws
from pipeline.artifacts.instances import Instances
from pipeline.artifacts.peaks import Points
from pipeline.artifacts.proposals import Proposals
from pipeline.artifacts.truth import TrueImage
from pipeline.common import masks
from pipeline.evaluation.measures import best_overlaps
from pipeline.evaluation.protocols import Pair, Rules, admit

# Minimum IoU with the true mask for a mask to be right, and to be a poor mask of the object.
RIGHT_IOU, NEAR_IOU = 0.5, 0.1

PSEUDO_MASK_OUTCOMES = ("right", "poor mask", "no proposal", "wrong class", "no peak")
PREDICTION_OUTCOMES = ("right", "poor mask", "wrong class", "not found")

Outcome = tuple[int, str]
"""The label of a true instance, and its outcome."""


@dataclass(frozen=True)
class Failures:
    """The true instances of a split by class and outcome.

    outcomes : all outcomes of the split, `right` first.
    images : class -> outcome -> the image of each instance with this outcome. An image with several
        such instances is repeated.
    """

    outcomes: Sequence[str]
    images: Mapping[str, Mapping[str, Sequence[str]]]

    @classmethod
    def of_images(
        cls,
        outcomes: Sequence[str],
        images: Iterable[tuple[str, Sequence[Outcome]]],
        classes: Sequence[str],
    ) -> "Failures":
        """Sort the instances of images; `images` are pairs of an id and its instances' outcomes."""
        sorted_in: dict[str, dict[str, list[str]]] = {
            name: {outcome: [] for outcome in outcomes} for name in classes
        }
        for image_id, instances in images:
            for label, outcome in instances:
                sorted_in[classes[label]][outcome].append(image_id)
        return cls(outcomes, sorted_in)

    @property
    def by_class(self) -> dict[str, Counter[str]]:
        """The number of instances with each outcome, per class."""
        return {
            name: Counter({outcome: len(ids) for outcome, ids in of_class.items() if ids})
            for name, of_class in self.images.items()
        }

    @property
    def total(self) -> Counter[str]:
        """The counts of all classes together."""
        return sum(self.by_class.values(), Counter[str]())


def pair(image: TrueImage, found: Instances) -> Pair:
    """Pair all true and all predicted instances of an image, with void pixels."""
    rules = Rules(len(found.masks), 0.0, remove_void=False, skip_images_without_objects=False)
    return admit(rules, image, found)


def pseudo_mask_outcomes(
    image: TrueImage, peaks: Points, proposals: Proposals, draws: Draws
) -> list[Outcome]:
    """Determine the outcome of each true instance of a training image in the first epoch.

    An instance without a right mask failed because no peak lies on it (`no peak`), because only
    peaks of other classes do (`wrong class`), because no proposal at its peaks has an IoU of
    `RIGHT_IOU` (`no proposal`), or because another proposal was drawn or the peak was dropped as a
    second peak of the same object (`poor mask`).
    """
    matched = pair(image, draws.instances(proposals, epoch=0))
    true, drawn = matched.true, best_overlaps(matched)
    points = np.stack([peaks.y, peaks.x], 1)
    on_it = masks.contains(true.masks, points)
    own = on_it & (true.label[:, None] == peaks.label)
    at_peaks = masks.contains(proposals.masks, points)
    overlaps = masks.iou(true.masks, proposals.masks)

    def outcome(k: int) -> str:
        if drawn[k] >= RIGHT_IOU:
            return "right"
        if not on_it[k].any():
            return "no peak"
        if not own[k].any():
            return "wrong class"
        candidates = at_peaks[:, own[k]].any(axis=1)
        there = overlaps[k, candidates].max(initial=0.0) >= RIGHT_IOU
        return "poor mask" if there else "no proposal"

    return [(int(label), outcome(k)) for k, label in enumerate(true.label)]


def prediction_outcomes(image: TrueImage, found: Instances) -> list[Outcome]:
    """Determine the outcome of each true instance of an image among the predictions."""
    matched = pair(image, found)
    own = best_overlaps(matched)
    any_class = masks.iou(matched.true.masks, found.masks).max(axis=1, initial=0.0)

    def outcome(k: int) -> str:
        if own[k] >= RIGHT_IOU:
            return "right"
        if any_class[k] >= RIGHT_IOU:
            return "wrong class"
        return "poor mask" if any_class[k] >= NEAR_IOU else "not found"

    return [(int(label), outcome(k)) for k, label in enumerate(matched.true.label)]
