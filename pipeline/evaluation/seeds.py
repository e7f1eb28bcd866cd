"""Spread over seeds: mean and standard deviation of an experiment that ran several times."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from pipeline.evaluation import tables
from pipeline.evaluation.summary import summaries
from pipeline.evaluation.tables import cell, table


class Moments(TypedDict):
    """Mean and sample standard deviation (n - 1) of a metric over seeds."""

    mean: float
    std: float


Spread = dict[str, dict[str, dict[str, Moments | None]]]
"""Method -> protocol -> metric."""


def seeds(parameters: Mapping[str, Any]) -> dict[str, int]:
    """Find all parameters named `seed`: their dotted keys and values."""
    found = {}
    for key, value in parameters.items():
        if key == "seed":
            found[key] = value
        elif isinstance(value, Mapping):
            found |= {f"{key}.{inner}": seed for inner, seed in seeds(value).items()}
    return found


def spread(runs: Sequence[Mapping[str, Any]]) -> Spread:
    """Mean and standard deviation of every metric of at least two runs, by method and protocol.

    `runs` are metrics of pipeline.evaluation. What is not known of every run is None; numbers
    of images and instances are no results, and left out.
    """
    found: Spread = {}
    for method, protocol, summary in summaries(runs[0]):
        found.setdefault(method, {})[protocol] = {
            name: _moments([run[method][protocol][name] for run in runs])
            for name in summary
            if name not in ("images", "instances", "per_class") and not name.endswith("_interval")
        }
    return found


def _moments(values: Sequence[float | None]) -> Moments | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    mean, std = statistics.mean(known), statistics.stdev(known)
    return {"mean": round(mean, 4), "std": round(std, 4)}


def spread_tables(of_methods: Spread, runs: Sequence[str]) -> str:
    """Write tables of masks, then of boxes and counts; `runs` are the names of the runs."""
    note = f"Mean ± standard deviation (n - 1) over {len(runs)} seeds: {', '.join(runs)}."
    of_masks, of_boxes_and_counts = [], []
    for method, protocol, numbers in summaries(of_methods):
        cells = {name: _cell(name, moments) for name, moments in numbers.items()}
        row = {"method": method, "protocol": protocol}
        of_masks.append(row | {name: cells[name] for name in tables.of_masks(numbers)})
        of_boxes_and_counts.append(
            row | {name: cells[name] for name in tables.of_boxes_and_counts(numbers)}
        )
    return "\n".join(
        [
            table(of_masks, note, tables.ABOUT_MASKS),
            table(of_boxes_and_counts, note, tables.ABOUT_BOXES_AND_COUNTS),
        ]
    )


def _cell(name: str, moments: Moments | None) -> str:
    if moments is None:
        return "-"
    return f"{cell(name, moments['mean'])} ± {cell(name, moments['std'])}"
