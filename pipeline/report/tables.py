"""The metrics of the stage `evaluation` as tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.errors import InputError
from pipeline.evaluation.tables import box_and_count_columns, cell, mask_columns, value_cell


@dataclass(frozen=True)
class Table:
    """Rows of cells by their names. The `columns` are repeated under each of the `groups`."""

    title: str
    corner: str
    groups: Sequence[str]
    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]


def read_metrics(path: Path) -> dict[str, Any]:
    """Read metrics.json of the stage `evaluation`.

    Raises
    ------
    InputError
        If it is missing, or has other content.
    """
    try:
        metrics = json.loads(path.read_text())
        if {"differences", "proposals", "peaks"} <= set(metrics):
            return dict(metrics)
    except FileNotFoundError:
        raise InputError(f"{path}: missing; the stage that writes it has not run") from None
    except (TypeError, ValueError):
        pass
    raise InputError(f"{path}: not what evaluation writes; run it again")


def methods(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of methods, without those of proposals and peaks."""
    return {name: entry for name, entry in metrics.items() if "wise" in entry}


def is_judged(metrics: Mapping[str, Any]) -> bool:
    """Whether any method was evaluated on at least one true instance."""
    return any(entry["wise"]["instances"] for entry in methods(metrics).values())


def headline(metrics: Mapping[str, Any]) -> Table:
    """Make the table of mAP of the methods, without those named /train or /uncalibrated."""
    judged = {name: entry for name, entry in methods(metrics).items() if "/" not in name}
    of_any = next(iter(judged.values()))
    names = [name for name in mask_columns(of_any["wise"]) if name.startswith("mAP")]
    return Table("mAP of masks, in percent", "method", list(of_any), names, _cells(judged, names))


def method_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Make the tables of masks, and of boxes and counts: a row per method."""
    judged = methods(metrics)
    of_any = next(iter(judged.values()))
    summary = of_any["wise"]
    columns = {"Masks": mask_columns(summary), "Boxes and counts": box_and_count_columns(summary)}
    return [
        Table(title, "method", list(of_any), names, _cells(judged, names))
        for title, names in columns.items()
    ]


def difference_table(metrics: Mapping[str, Any]) -> Table | None:
    """Differences between methods, the protocols side by side; None without two methods."""
    compared = metrics["differences"]
    if not compared:
        return None
    of_any = next(iter(compared.values()))
    names = mask_columns(of_any["wise"])
    rows = _cells(compared, names)
    return Table("Differences, in points", "difference", list(of_any), names, rows)


def class_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Make a table for each metric: a row per class, a column per protocol and method."""
    judged = methods(metrics)
    of_any = next(iter(judged.values()))
    protocols, classes = list(of_any), of_any["wise"]["per_class"]
    return [
        Table(
            f"{number} of every class",
            "class",
            protocols,
            list(judged),
            {
                name: [
                    cell(number, entry[protocol]["per_class"][name][number])
                    for protocol in protocols
                    for entry in judged.values()
                ]
                for name in classes
            },
        )
        for number in next(iter(classes.values()))
    ]


def quality_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Make a table of rows with the same keys. The first value is the name of the row."""
    corner, *columns = rows[0]
    cells = {row[corner]: [cell(column, row[column]) for column in columns] for row in rows}
    return Table(f"Quality of the {corner} a split", corner, [], columns, cells)


def _cells(entries: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[str]]:
    """Format the metrics with these names, for each protocol of each entry."""
    return {
        entry: [
            cell(name, value_cell(numbers, name)) for numbers in of_entry.values() for name in names
        ]
        for entry, of_entry in entries.items()
    }
