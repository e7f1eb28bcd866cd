"""Bootstrap intervals over photographs: how far mAP may differ on other photographs.

Photographs are drawn with replacement, as many as there are, `RESAMPLES` times; a 95 % interval
leaves out the highest and lowest 2.5 % of the mAPs (Efron and Tibshirani, An Introduction to the
Bootstrap, chapter 13). Detections are matched to the truth once; a resample only counts each
photograph's matches as often as it was drawn, which gives the AP that pycocotools gives on the
duplicated photographs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.measures import Matches

Floats = NDArray[np.float64]

RESAMPLES = 1000
# From worst to best, as the paper has them; each is compared with the next.
ORDER = ("prm", "wise", "wise+refine", "mask_rcnn_gt")

_SEED = 0
_BOUNDS = (2.5, 97.5)  # percentiles
_RECALLS = np.linspace(0, 1, 101)  # those of pycocotools


@dataclass(frozen=True)
class Estimates:
    """mAP by protocol: `value` (thresholds,) of the photographs themselves, and `resampled`.

    Both are 0 to 1, float64; `resampled` has the shape (thresholds, resamples). NaN where there
    are no true instances.
    """

    value: Mapping[str, Floats]
    resampled: Mapping[str, Floats]


def draw_resamples(images: int) -> NDArray[np.int64]:
    """How often each resample holds each image: int64 of shape (resamples, images).

    The same for any two methods on the same images, so that they can be compared in pairs.
    """
    drawn = np.random.default_rng(_SEED).integers(images or 1, size=(RESAMPLES, images))
    return np.array([np.bincount(resample, minlength=images) for resample in drawn])


def resampled_mean(matches: Sequence[Matches], resamples: NDArray[np.int64]) -> Floats:
    """Mean AP over the classes with true instances, 0 to 1.

    Parameters
    ----------
    matches : those of every class.
    resamples : how often each resample holds each image, shape (resamples, images).

    Returns
    -------
    float64 of shape (thresholds, resamples), NaN for a resample without true instances.
    """
    weights = resamples.astype(np.float64)
    of_classes = np.stack([_average_precision(of_class, weights) for of_class in matches])
    known = ~np.isnan(of_classes)
    count = known.sum(axis=0)
    total = np.where(known, of_classes, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)


def _average_precision(matches: Matches, weights: Floats) -> Floats:
    """AP of a class, shape (thresholds, resamples), NaN where there are no true instances."""
    instances = weights @ matches.instances
    average = [_at_threshold(matches, right, weights, instances) for right in matches.right]
    return np.where(instances > 0, np.stack(average), math.nan)


def _at_threshold(
    matches: Matches, right: NDArray[np.bool_], weights: Floats, instances: Floats
) -> Floats:
    """101-point interpolated AP at one threshold, shape (resamples,).

    Recall grows at right detections alone, and precision is highest there, so nothing else of
    the curve is needed.
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
    """The 95 % interval, in percent, of what resamples gave (0 to 1); None if nothing is known."""
    known = resampled[~np.isnan(resampled)]
    if not len(known):
        return None
    return [round(float(bound), 4) for bound in np.percentile(100 * known, _BOUNDS)]


def differences(estimates: Mapping[str, Estimates], names: Sequence[str]) -> dict[str, Any]:
    """Compare consecutive methods of `ORDER` on the same photographs, split by split.

    Parameters
    ----------
    estimates : method -> what `evaluate` estimates of it.
    names : what mAP is called at each threshold.

    Returns
    -------
    'better - worse' -> protocol -> difference of every mAP and its interval, in percent.
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
    """Each value (0 to 1) in percent by its name, and its interval by its name and `_interval`.

    Parameters
    ----------
    names : shape (n,).
    values : shape (n,).
    resampled : shape (n, resamples).
    """
    found: dict[str, Any] = {}
    for name, value, of_value in zip(names, values, resampled, strict=True):
        found[name] = None if math.isnan(value) else round(100 * float(value), 4)
        found[f"{name}_interval"] = interval(of_value)
    return found
