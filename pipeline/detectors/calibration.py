"""Calibration of scores without masks: a power for each class, fitted on the training photographs.

Not published. A score of 0.5 is to be passed by as many detections as there are objects. How many
objects the training photographs show is counted in the pseudo masks, so that only tags are needed.
"""

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.instances import InstanceSource
from pipeline.artifacts.split import Split
from pipeline.common.parameters import Parameters

# Powers are between its inverse and this: steeper ones turn low scores into 0, without an order.
MAX_POWER = 20.0


class CalibrationParameters(Parameters):
    """Settings of the stage `calibration`."""

    enabled: bool = Field(
        description="whether scores are raised to a power for each class, which is fitted on tags"
    )
    max_overlap: float = Field(
        ge=0,
        le=1,
        description="maximum overlap of two draws, and of two detections, of a class that count as "
        "two objects, as a fraction of the smaller mask; 1: no limit",
    )


def fit(
    split: Split, draws: InstanceSource, detections: InstanceSource, max_overlap: float
) -> Calibration:
    """Fit a power for each class: as many detections pass 0.5 as there are expected objects.

    Parameters
    ----------
    split : the training photographs and their tags.
    draws : the pseudo masks of an epoch; without parts, they are the expected objects.
    detections : of a trained detector in the same photographs.
    max_overlap : see `CalibrationParameters`.
    """
    expected = [len(scores) for scores in object_scores(split, draws, max_overlap)]
    detected = object_scores(split, detections, max_overlap)
    powers = tuple(map(fit_power, detected, expected))
    return Calibration(
        classes=split.classes, max_overlap=max_overlap, expected=tuple(expected), powers=powers
    )


def object_scores(
    split: Split, instances: InstanceSource, max_overlap: float
) -> list[NDArray[np.float32]]:
    """Collect the scores of the objects that instances stand for, class by class.

    Only instances of a tagged class count, and none that overlaps a better one of its class by
    more than `max_overlap`.
    """
    objects = [
        instances.instances(photograph.id)
        .of_classes(split.labels(photograph))
        .without_parts(max_overlap)
        for photograph in split.photographs
    ]
    label = np.concatenate([np.zeros(0, np.int16), *(of_image.label for of_image in objects)])
    score = np.concatenate([np.zeros(0, np.float32), *(of_image.score for of_image in objects)])
    return [score[label == number] for number in range(len(split.classes))]


def fit_power(scores: NDArray[np.float32], expected: int) -> float:
    """Find the power of scores with which `expected` of them are at least 0.5.

    It is 1 if nothing is expected or detected. If fewer are detected than expected, all are at
    least 0.5.
    """
    if expected == 0 or len(scores) == 0:
        return 1.0
    best = np.append(-np.sort(-scores.astype(np.float64)), 0.0)
    last = min(expected, len(scores))
    # Between the last score that is to pass and the first that is not.
    threshold = best[last - 1 : last + 1].mean()
    if threshold >= 1:
        return MAX_POWER
    power = math.log(0.5) / math.log(threshold)
    return min(max(power, 1 / MAX_POWER), MAX_POWER)
