"""The evaluation protocols: which images and detections count.

- `coco` is the protocol of the COCO benchmark: 101-point interpolated average precision, a maximum
  number of detections per image and class, and no minimum score.
- `wise` is the protocol of the code released with WISE (Laradji et al., BMVC 2019, section 4). It
  has the same maximum number. In addition, it drops detections of low score, removes void pixels
  from predictions and true masks, and skips images without an object of any class, including
  classes that are not in the split.

The metrics are average precision (AP) and average best overlap (ABO) of masks, as in WISE, tables 1
to 3; AP and correct localisation (CorLoc; Deselaers et al., IJCV 2012) of boxes; and the mean
absolute error of the number of instances (WISE 4.3.1). All boxes are those around masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pydantic import Field, PositiveInt, field_validator

from pipeline.artifacts.instances import Instances, InstanceSource
from pipeline.artifacts.truth import TrueImage, Truth
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.common.masks import Rle
from pipeline.common.parameters import Parameters

Threshold = Annotated[float, Gt(0), Lt(1)]


class EvaluationParameters(Parameters):
    """Thresholds and limits of the protocols."""

    iou_thresholds: tuple[Threshold, ...] = Field(
        min_length=1, description="minimum IoU of a right detection; AP is computed at each"
    )
    max_detections: PositiveInt = Field(
        description="maximum number of detections per image and class"
    )
    min_score: float = Field(ge=0, le=1, description="minimum score in the protocol wise")

    @field_validator("iou_thresholds")
    @classmethod
    def _ascending(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if list(thresholds) != sorted({round(t, 2) for t in thresholds}):
            raise ValueError("must be different, in ascending order, with two decimals")
        return thresholds

    @property
    def names(self) -> list[str]:
        """The names of average precision at each threshold."""
        return [f"AP{100 * threshold:.0f}" for threshold in self.iou_thresholds]

    @property
    def middle(self) -> str:
        """The name of average precision at the middle threshold, the main metric."""
        return self.names[len(self.names) // 2]


@dataclass(frozen=True)
class Rules:
    """Which images and detections a protocol counts."""

    max_detections: int
    min_score: float
    remove_void: bool
    skip_images_without_objects: bool


def protocols(parameters: EvaluationParameters) -> dict[str, Rules]:
    """Return the rules of each protocol by name."""
    limit = parameters.max_detections
    return {
        "coco": Rules(limit, 0.0, remove_void=False, skip_images_without_objects=False),
        "wise": Rules(
            limit, parameters.min_score, remove_void=True, skip_images_without_objects=True
        ),
    }


@dataclass(frozen=True)
class Method:
    """The predictions of a method, and the true masks to compare them with.

    If scores are not `confidences`, protocols do not apply a minimum score.
    """

    truth: Truth
    predictions: InstanceSource
    confidences: bool = True


@dataclass(frozen=True)
class Pair:
    """The true and the predicted instances of an image that a protocol counts, best first."""

    height: int
    width: int
    true: Instances
    found: Instances


@dataclass(frozen=True)
class Pairs:
    """All pairs of a method with a protocol.

    `thresholded` means that the number of detections is meaningful. It is not if detections have
    confidences and no minimum score was applied. `confidences` is that of the method.
    """

    pairs: Sequence[Pair]
    classes: Sequence[str]
    thresholded: bool
    confidences: bool


def pairs_of(method: Method, parameters: EvaluationParameters) -> dict[str, Pairs]:
    """Pair true and predicted instances with each protocol, for the images with true masks.

    Raises
    ------
    InputError
        If the predictions have other classes, or an image with true masks is missing.
    """
    classes = method.truth.classes
    if tuple(method.predictions.attributes["classes"]) != classes:
        raise InputError("true masks and predictions have different classes; run all stages again")
    rules_of = protocols(parameters)
    if not method.confidences:
        rules_of = {name: replace(rules, min_score=0.0) for name, rules in rules_of.items()}
    pairs: dict[str, list[Pair]] = {name: [] for name in rules_of}
    for image in method.truth.images:
        found = method.predictions.instances(image.id)
        for name, rules in rules_of.items():
            if image.has_objects or not rules.skip_images_without_objects:
                pairs[name].append(admit(rules, image, found))
    return {
        name: Pairs(
            pairs[name],
            classes,
            thresholded=rules.min_score > 0 or not method.confidences,
            confidences=method.confidences,
        )
        for name, rules in rules_of.items()
    }


def admit(rules: Rules, image: TrueImage, found: Instances) -> Pair:
    """Apply the rules of a protocol to an image and its predictions."""
    best = _best_per_class(found, rules.max_detections)
    found = found.take(best[found.score[best] >= rules.min_score])
    true = image.as_instances()
    if rules.remove_void:
        void = masks.decode([image.void_mask()], image.height, image.width)
        true, found = _within(masks.encode(~void), true), _within(masks.encode(~void), found)
    return Pair(image.height, image.width, true, found)


def _best_per_class(found: Instances, limit: int) -> NDArray[np.intp]:
    """Return the indices of the `limit` best detections of each class, best first."""
    best = np.argsort(-found.score, kind="stable")
    label = found.label[best]
    kept = np.zeros(len(best), bool)
    for of_class in np.unique(label):
        kept[np.flatnonzero(label == of_class)[:limit]] = True
    return best[kept]


def _within(area: list[Rle], instances: Instances) -> Instances:
    """Crop instances to an area (one mask); those outside it are dropped."""
    cut = [coco_mask.merge([mask, *area], intersect=True) for mask in instances.masks]
    return replace(instances, masks=cut).take(np.flatnonzero(masks.area(cut)))
