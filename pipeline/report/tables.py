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


def method_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Make the tables of masks, and of boxes and counts: a row per method."""
    judged = methods(metrics)
    of_any = next(iter(judged.values()))
    protocols, summary = list(of_any), of_any["wise"]
    columns = {"Masks": mask_columns(summary), "Boxes and counts": box_and_count_columns(summary)}
    return [
        Table(
            title,
            "method",
            protocols,
            names,
            {
                method: [
                    cell(name, value_cell(entry[p], name)) for p in protocols for name in names
                ]
                for method, entry in judged.items()
            },
        )
        for title, names in columns.items()
    ]


def difference_table(metrics: Mapping[str, Any]) -> Table | None:
    """Differences between methods, the protocols side by side; None without two methods."""
    compared = metrics["differences"]
    if not compared:
        return None
    protocols = list(next(iter(compared.values())))
    names = mask_columns(next(iter(compared.values()))[protocols[0]])
    rows = {
        pair: [cell(name, value_cell(entry[p], name)) for p in protocols for name in names]
        for pair, entry in compared.items()
    }
    return Table("Differences, in points", "difference", protocols, names, rows)


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
