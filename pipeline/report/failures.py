"""Failure analysis: the first stage that went wrong for each true instance."""

from collections import Counter
from collections.abc import Iterable, Sequence
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

# IoU with the true mask from which a mask is right, and below which it misses the object.
RIGHT, NEAR = 0.5, 0.1

OF_PSEUDO_MASKS = ("right", "poor mask", "no proposal", "wrong class", "no peak")
OF_PREDICTIONS = ("right", "poor mask", "wrong class", "not found")

Outcome = tuple[int, str]
"""The label of a true instance, and its outcome."""


@dataclass(frozen=True)
class FailureCounts:
    """The number of true instances with each of the `outcomes`, per class."""

    outcomes: Sequence[str]
    by_class: dict[str, Counter[str]]

    @classmethod
    def count(
        cls, outcomes: Sequence[str], ended: Iterable[Outcome], classes: Sequence[str]
    ) -> "FailureCounts":
        """Count the outcomes of instances per class."""
        by_class: dict[str, Counter[str]] = {name: Counter() for name in classes}
        for label, outcome in ended:
            by_class[classes[label]][outcome] += 1
        return cls(outcomes, by_class)

    @property
    def whole(self) -> Counter[str]:
        """The counts of all classes together."""
        return sum(self.by_class.values(), Counter[str]())


def pair(image: TrueImage, found: Instances) -> Pair:
    """All true and all found instances of an image, void pixels left as they are."""
    everything = Rules(len(found.masks), 0.0, remove_void=False, skip_images_without_objects=False)
    return admit(everything, image, found)


def of_pseudo_masks(
    image: TrueImage, peaks: Points, proposals: Proposals, draws: Draws
) -> list[Outcome]:
    """Determine the outcome of each true instance of a training image in the first epoch.

    An instance without a right mask failed because no peak lies on it (`no peak`), because only
    peaks of other classes do (`wrong class`), because no proposal at its peaks has an IoU of
    `RIGHT` (`no proposal`), or because another proposal was drawn, or a better peak was taken for
    a peak of the same object (`poor mask`).
    """
    of_image = pair(image, draws.instances(proposals, epoch=0))
    true, drawn = of_image.true, best_overlaps(of_image)
    points = np.stack([peaks.y, peaks.x], 1)
    on_it = masks.contains(true.masks, points)
    own = on_it & (true.label[:, None] == peaks.label)
    at_peaks = masks.contains(proposals.masks, points)
    overlaps = masks.iou(true.masks, proposals.masks)

    def outcome(k: int) -> str:
        if drawn[k] >= RIGHT:
            return "right"
        if not on_it[k].any():
            return "no peak"
        if not own[k].any():
            return "wrong class"
        candidates = at_peaks[:, own[k]].any(axis=1)
        there = overlaps[k, candidates].max(initial=0.0) >= RIGHT
        return "poor mask" if there else "no proposal"

    return [(int(label), outcome(k)) for k, label in enumerate(true.label)]


def of_predictions(image: TrueImage, found: Instances) -> list[Outcome]:
    """Determine the outcome of each true instance of an image among the predictions."""
    of_image = pair(image, found)
    own = best_overlaps(of_image)
    of_any = masks.iou(of_image.true.masks, found.masks).max(axis=1, initial=0.0)

    def outcome(k: int) -> str:
        if own[k] >= RIGHT:
            return "right"
        if of_any[k] >= RIGHT:
            return "wrong class"
        return "poor mask" if of_any[k] >= NEAR else "not found"

    return [(int(label), outcome(k)) for k, label in enumerate(of_image.true.label)]
