"""All metrics of a method, by protocol and class."""

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
from pipeline.evaluation.reliability import reliability_curves

# The names of the metrics of boxes and counts begin with these; the other metrics are of masks.
BOX_AND_COUNT_PREFIXES = ("box_", "CorLoc", "count_error")


def evaluate(
    pairs: Mapping[str, Pairs], parameters: EvaluationParameters
) -> tuple[dict[str, Any], Estimates]:
    """Compute all metrics of a method with each protocol, from the pairs of `pairs_of`.

    Returns
    -------
    Protocol -> metrics, and the estimates that `differences` compares. The metrics are:

    - `images`, `instances`: number of images and of true instances
    - `mAPxx` and `mAPxx_interval`: mAP of masks at each IoU threshold, and its 95 % bootstrap
      interval over images, in percent
    - `ABO`, the expected calibration error `ECE`, `box_mAPxx`, `CorLoc`: in percent
    - `count_error`: in instances per image
    - `per_class`: the same metrics for each class

    Without true instances, confidences or a score threshold, a metric is None. Means over classes
    leave it out.
    """
    summaries, values, resampled = {}, {}, {}
    for protocol, counted in pairs.items():
        summary = _summary(counted, parameters)
        summaries[protocol], values[protocol], resampled[protocol] = summary
    return summaries, Estimates(values, resampled)


def _summary(
    counted: Pairs, parameters: EvaluationParameters
) -> tuple[dict[str, Any], Floats, Floats]:
    """Compute the metrics, mAP (thresholds,), and mAP of the resamples (thresholds, resamples)."""
    pairs, count = counted.pairs, len(counted.classes)
    mask_ap, box_ap, matches = average_precision(pairs, count, parameters.iou_thresholds)
    columns = {
        **dict(zip(parameters.names, mask_ap, strict=True)),
        "ABO": average_best_overlap(pairs, count),
        "ECE": _calibration_errors(counted),
        **{f"box_{name}": ap for name, ap in zip(parameters.names, box_ap, strict=True)},
        "CorLoc": correct_localisation(pairs, count),
    }
    errors, error = count_errors(pairs, count)
    if not counted.thresholded:
        errors, error = np.full(count, math.nan), math.nan
    values = np.array([mean_of_known(column) for column in mask_ap])
    resampled = resampled_mean(matches, draw_resamples(len(pairs)))
    means = {_mean_name(name): _percent(mean_of_known(values)) for name, values in columns.items()}
    summary = {
        "images": len(pairs),
        "instances": sum(len(pair.true.masks) for pair in pairs),
        **means,
        **with_intervals(mean_names(parameters), values, resampled),
        "count_error": _rounded(error),
        "per_class": {
            class_name: {name: _percent(column[label]) for name, column in columns.items()}
            | {"count_error": _rounded(errors[label])}
            for label, class_name in enumerate(counted.classes)
        },
    }
    return summary, values, resampled


def _calibration_errors(counted: Pairs) -> Floats:
    """Compute the calibration error of each class, 0 to 1; NaN if scores are not confidences."""
    if not counted.confidences:
        return np.full(len(counted.classes), math.nan)
    return np.array([curve.error for curve in reliability_curves(counted).values()])


def mean_names(parameters: EvaluationParameters) -> list[str]:
    """Return the names of mAP at each threshold."""
    return [_mean_name(name) for name in parameters.names]


def _mean_name(column: str) -> str:
    """Return the name of a mean over classes: mAP for AP; other names stay the same."""
    return column.replace("AP", "mAP")


def _percent(fraction: float) -> float | None:
    return _rounded(100 * fraction)


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def summaries(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, protocol and metrics of every method."""
    for method, by_protocol in metrics.items():
        for protocol, summary in by_protocol.items():
            yield method, protocol, summary
