"""Mean and standard deviation of the metrics of an experiment over several seeds."""

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
    """Compute mean and standard deviation of each metric over at least two runs.

    `runs` are the metrics of each run, by method and protocol. A metric that is unknown in one of
    them is None. The numbers of images and instances are left out.
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


def spread_tables(found: Spread, runs: Sequence[str]) -> str:
    """Format the tables of masks, and of boxes and counts; `runs` are the names of the runs."""
    note = f"Mean ± standard deviation (n - 1) over {len(runs)} seeds: {', '.join(runs)}."
    mask_rows, box_and_count_rows = [], []
    for method, protocol, numbers in summaries(found):
        cells = {name: _cell(name, moments) for name, moments in numbers.items()}
        row = {"method": method, "protocol": protocol}
        mask_rows.append(row | {name: cells[name] for name in tables.mask_columns(numbers)})
        box_and_count_rows.append(
            row | {name: cells[name] for name in tables.box_and_count_columns(numbers)}
        )
    return "\n".join(
        [
            table(mask_rows, note, tables.ABOUT_MASKS),
            table(box_and_count_rows, note, tables.ABOUT_BOXES_AND_COUNTS),
        ]
    )


def _cell(name: str, moments: Moments | None) -> str:
    if moments is None:
        return "-"
    return f"{cell(name, moments['mean'])} ± {cell(name, moments['std'])}"
