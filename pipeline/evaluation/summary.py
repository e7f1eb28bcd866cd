"""All measures of a method, by protocol and by class."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pipeline.evaluation.intervals import (
    Estimates,
    Floats,
    draw_resamples,
    resampled_mean,
    with_intervals,
)
from pipeline.evaluation.measures import (
    average_best_overlap,
    average_precision,
    correct_localisation,
    count_errors,
    mean_of_known,
)
from pipeline.evaluation.protocols import EvaluationParameters, Pairs

# How the names of numbers begin that are of boxes and counts; the others are of masks.
OF_BOXES_AND_COUNTS = ("box_", "CorLoc", "count_error")


def evaluate(
    pairs: Mapping[str, Pairs], parameters: EvaluationParameters
) -> tuple[dict[str, Any], Estimates]:
    """Compute all measures of a method under every protocol, from the pairs of `pairs_of`.

    Returns
    -------
    Protocol -> number of `images` and true `instances`; in percent `mAPxx` of masks for
    every threshold, `ABO`, `box_mAPxx` of boxes, `CorLoc`; `count_error`, in instances an image;
    `per_class` the same class by class. What nothing is known of, for want of true instances or
    of a cut of scores, is None, and left out of the means over classes. `mAPxx_interval` is the
    95 % bootstrap interval of `mAPxx` over images. And the estimates that `differences` compares.
    """
    summaries, values, resampled = {}, {}, {}
    for name, of_protocol in pairs.items():
        summaries[name], values[name], resampled[name] = _summary(of_protocol, parameters)
    return summaries, Estimates(values, resampled)


def _summary(
    of_protocol: Pairs, parameters: EvaluationParameters
) -> tuple[dict[str, Any], Floats, Floats]:
    """The measures, and mAP of the images and of resamples: (thresholds, [resamples])."""
    pairs, count = of_protocol.pairs, len(of_protocol.classes)
    of_masks, of_boxes, matches = average_precision(pairs, count, parameters.iou_thresholds)
    columns = {
        **dict(zip(parameters.names, of_masks, strict=True)),
        "ABO": average_best_overlap(pairs, count),
        **{f"box_{name}": of for name, of in zip(parameters.names, of_boxes, strict=True)},
        "CorLoc": correct_localisation(pairs, count),
    }
    errors, error = count_errors(pairs, count)
    if not of_protocol.thresholded:
        errors, error = np.full(count, math.nan), math.nan
    values = np.array([mean_of_known(column) for column in of_masks])
    resampled = resampled_mean(matches, draw_resamples(len(pairs)))
    means = {_mean_name(name): _percent(mean_of_known(of)) for name, of in columns.items()}
    summary = {
        "images": len(pairs),
        "instances": sum(len(pair.true.masks) for pair in pairs),
        **means,
        **with_intervals(mean_names(parameters), values, resampled),
        "count_error": _rounded(error),
        "per_class": {
            class_name: {name: _percent(column[label]) for name, column in columns.items()}
            | {"count_error": _rounded(errors[label])}
            for label, class_name in enumerate(of_protocol.classes)
        },
    }
    return summary, values, resampled


def mean_names(parameters: EvaluationParameters) -> list[str]:
    """Names of mAP at each threshold."""
    return [_mean_name(name) for name in parameters.names]


def _mean_name(column: str) -> str:
    """Name of the mean over classes: mAP for AP; the others keep their name."""
    return column.replace("AP", "mAP")


def _percent(share: float) -> float | None:
    return _rounded(100 * share)


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def summaries(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, protocol and measures of every evaluated method."""
    for method, by_protocol in metrics.items():
        for protocol, summary in by_protocol.items():
            yield method, protocol, summary
