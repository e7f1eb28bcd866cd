"""Bootstrap intervals over photographs: how much mAP may differ on other photographs.

A resample consists of as many photographs as there are, drawn with replacement. The 95 % interval
excludes the highest and lowest 2.5 % of the mAPs of `RESAMPLES` resamples (Efron and Tibshirani, An
Introduction to the Bootstrap, chapter 13). Detections are matched only once: a resample counts the
matches of a photograph as often as it was drawn. This gives the same AP as pycocotools gives for
the duplicated photographs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.measures import Matches

Floats = NDArray[np.float64]

RESAMPLES = 1000
# About from worst to best in the papers. Each method is compared with the next.
ORDER = (
    "prm",
    "community",
    "wise",
    "wise+refine",
    "community+mask_rcnn",
    "community+mask_rcnn+refine",
    "mask_rcnn_gt",
)

_SEED = 0
_BOUNDS = (2.5, 97.5)  # percentiles
_RECALLS = np.linspace(0, 1, 101)  # those of pycocotools


@dataclass(frozen=True)
class Estimates:
    """mAP by protocol, from 0 to 1, NaN without true instances.

    value : float64 (thresholds,), of the photographs themselves.
    resampled : float64 (thresholds, resamples).
    """

    value: Mapping[str, Floats]
    resampled: Mapping[str, Floats]

    @classmethod
    def of_lists(cls, value: Mapping[str, Any], resampled: Mapping[str, Any]) -> Self:
        """Make them from nested lists, as they are in JSON."""
        return cls(
            {protocol: np.array(numbers, np.float64) for protocol, numbers in value.items()},
            {protocol: np.array(numbers, np.float64) for protocol, numbers in resampled.items()},
        )


def draw_resamples(images: int) -> NDArray[np.int64]:
    """Draw how often each resample contains each image: int64 of shape (resamples, images).

    All methods get the same resamples, because they are compared on each resample.
    """
    drawn = np.random.default_rng(_SEED).integers(images or 1, size=(RESAMPLES, images))
    return np.array([np.bincount(resample, minlength=images) for resample in drawn])


def resampled_mean(matches: Sequence[Matches], resamples: NDArray[np.int64]) -> Floats:
    """Compute the mean AP over the classes with true instances, 0 to 1.

    Parameters
    ----------
    matches : the matches of each class.
    resamples : how often each resample contains each image, shape (resamples, images).

    Returns
    -------
    float64 of shape (thresholds, resamples), NaN for a resample without true instances.
    """
    weights = resamples.astype(np.float64)
    average = np.stack([_average_precision(of_class, weights) for of_class in matches])
    known = ~np.isnan(average)
    count = known.sum(axis=0)
    total = np.where(known, average, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def _average_precision(matches: Matches, weights: Floats) -> Floats:
    """Compute the AP of a class, (thresholds, resamples), NaN without true instances."""
    instances = weights @ matches.instances
    average = [_at_threshold(matches, right, weights, instances) for right in matches.right]
    return np.where(instances > 0, np.stack(average), math.nan)


def _at_threshold(
    matches: Matches, right: NDArray[np.bool_], weights: Floats, instances: Floats
) -> Floats:
    """Compute the 101-point interpolated AP at one threshold, shape (resamples,).

    Only the points of the curve at right detections are needed: recall grows only there, and
    precision is highest there.
    """
    hits = np.flatnonzero(right)
    if not len(hits):
        return np.zeros(len(weights))
    # Detections of each image between one right detection and the next.
    between = np.zeros((weights.shape[1], len(hits)))
    ranks = np.arange(hits[-1] + 1)
    np.add.at(between, (matches.image[ranks], np.searchsorted(hits, ranks)), 1)
    found = np.cumsum(weights[:, matches.image[hits]], axis=1)
    detections = np.cumsum(weights @ between, axis=1)
    precision = found / (detections + np.spacing(1))
    recall = found / np.maximum(instances, 1)[:, None]
    # The precision at a recall is the highest at that recall or above.
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(_RECALLS, recall, side="right")
    points = np.diff(reached, axis=1, prepend=0)
    average: Floats = (envelope * points).sum(axis=1) / len(_RECALLS)
    return average


def interval(resampled: Floats) -> list[float] | None:
    """Return the 95 % interval, in percent, of resampled values (0 to 1); None if all are NaN."""
    known = resampled[~np.isnan(resampled)]
    if not len(known):
        return None
    return [round(float(bound), 4) for bound in np.percentile(100 * known, _BOUNDS)]


def differences(estimates: Mapping[str, Estimates], names: Sequence[str]) -> dict[str, Any]:
    """Compare consecutive methods of `ORDER` on the same photographs of each split.

    Parameters
    ----------
    estimates : method -> the estimates of `evaluate`.
    names : names of mAP at each threshold.

    Returns
    -------
    'better - worse' -> protocol -> difference of each mAP and its interval, in percent.
    """
    found = {}
    for suffix in ("", "/train"):
        methods = [name for name in (f"{method}{suffix}" for method in ORDER) if name in estimates]
        for worse, better in pairwise(methods):
            found[f"{better} - {worse}"] = _difference(estimates[better], estimates[worse], names)
    return found


def _difference(better: Estimates, worse: Estimates, names: Sequence[str]) -> dict[str, Any]:
    return {
        protocol: with_intervals(
            names,
            better.value[protocol] - worse.value[protocol],
            better.resampled[protocol] - worse.resampled[protocol],
        )
        for protocol in better.value
    }


def with_intervals(names: Sequence[str], values: Floats, resampled: Floats) -> dict[str, Any]:
    """Return values (0 to 1) in percent by name, and their intervals by name and `_interval`.

    Parameters
    ----------
    names : shape (n,).
    values : shape (n,).
    resampled : shape (n, resamples).
    """
    found: dict[str, Any] = {}
    for name, value, samples in zip(names, values, resampled, strict=True):
        found[name] = None if math.isnan(value) else round(100 * float(value), 4)
        found[f"{name}_interval"] = interval(samples)
    return found
