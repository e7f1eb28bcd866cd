"""The metrics of an evaluation as Markdown and CSV tables."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.common import files
from pipeline.evaluation.stage_quality import quality_rows
from pipeline.evaluation.summary import BOX_AND_COUNT_PREFIXES, summaries

ABOUT_MASKS = (
    "All values except counts are in percent. Methods without a confidence have no score "
    "threshold: pseudo_masks are ranked by objectness, prm by how well they fit their peaks. "
    "mask_rcnn_gt, if present, is the upper bound: only this method was trained on true masks. "
    "ECE: expected calibration error, the difference of a score and the fraction of right "
    "detections (IoU 0.50) with this score. Methods named /uncalibrated have the scores before "
    "calibration; without such methods, no scores were calibrated."
)
ABOUT_INTERVALS = (
    "In brackets: 95 % bootstrap interval over images (1,000 resamples). It shows how much mAP may "
    "differ on other images, not with another seed."
)
ABOUT_DIFFERENCES = (
    "Differences on the same images, in points, with their 95 % bootstrap interval over images "
    "(1,000 resamples). A method is reliably better only if the interval excludes 0."
)
ABOUT_BOXES_AND_COUNTS = (
    "box_mAP: mAP of the boxes around the masks. CorLoc: fraction of the images with a class whose "
    "highest-scored detection of this class has a box IoU of at least 0.5 with an instance. Both "
    "are means over classes, in percent. count_error: difference of the numbers of detected and "
    "true instances, mean over images; '-' for detections without a score threshold."
)
_ABOUT_PROPOSALS = (
    "In percent. AR@k: average recall of the first k proposals over IoU 0.50 to 0.95. overlap@k: "
    "best IoU with an instance, averaged over instances, and over classes. above: fraction of "
    "instances with a proposal of at least that IoU. small, medium, large: COCO's sizes, areas up "
    "to 32² pixels, up to 96², and larger."
)
_ABOUT_PEAKS = (
    "In percent. hit_instances: fraction of instances with a peak of their class. right_peaks: "
    "fraction of peaks on an instance of their class. covered_peaks: fraction of these inside a "
    "proposal. best, top_scoring, drawn: IoU of their instance with the best proposal at the peak, "
    "with the one of highest objectness, and with the drawn ones. pseudo_masks: number of masks of "
    "the first epoch. precision, recall, F1: of these masks, at IoU 0.50."
)


def evaluation_tables(
    metrics: Mapping[str, Any],
    compared: Mapping[str, Any],
    quality: Mapping[str, Any],
    source: Mapping[str, Any],
) -> str:
    """Format all tables: methods, proposals by size, peaks by class.

    Parameters
    ----------
    metrics : method -> result of `evaluate`.
    compared : result of `differences`.
    quality : `proposals` and `peaks` -> split -> their quality.
    source : attributes of the proposals. Their method and supervision are repeated below every
        table.
    """
    supervision = f"Proposals: {source['method']}. Their supervision: {source['supervision']}"
    proposals = quality_rows("proposals of", quality["proposals"], "by_size")
    peaks = quality_rows("peaks of", quality["peaks"], "per_class")
    return "\n".join(
        [
            method_tables(metrics, compared, supervision),
            table(proposals, _ABOUT_PROPOSALS, supervision),
            table(peaks, _ABOUT_PEAKS, supervision),
        ]
    )


def method_tables(metrics: Mapping[str, Any], compared: Mapping[str, Any], *notes: str) -> str:
    """Format the tables of methods: masks, differences (if any), boxes and counts."""
    differences = difference_rows(compared)
    parts = [table(_method_rows(metrics, mask_columns), ABOUT_MASKS, ABOUT_INTERVALS, *notes)]
    if differences:
        parts.append(table(differences, ABOUT_DIFFERENCES, *notes))
    boxes_and_counts = _method_rows(metrics, box_and_count_columns)
    return "\n".join([*parts, table(boxes_and_counts, ABOUT_BOXES_AND_COUNTS, *notes)])


def mask_columns(summary: Mapping[str, Any]) -> list[str]:
    """Return the names of the counts and of the metrics of masks."""
    others = (*BOX_AND_COUNT_PREFIXES, "per_class")
    return [n for n in summary if not n.startswith(others) and not n.endswith("_interval")]


def box_and_count_columns(summary: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics of boxes and of `count_error`."""
    return [name for name in summary if name.startswith(BOX_AND_COUNT_PREFIXES)]


def _method_rows(
    metrics: Mapping[str, Any], columns: Callable[[Mapping[str, Any]], list[str]]
) -> list[dict[str, Any]]:
    return [
        {"method": method, "protocol": protocol}
        | {name: value_cell(summary, name) for name in columns(summary)}
        for method, protocol, summary in summaries(metrics)
    ]


def difference_rows(compared: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the differences between methods as rows of a table."""
    return [
        {"difference": pair, "protocol": protocol}
        | {name: value_cell(numbers, name) for name in mask_columns(numbers)}
        for pair, protocol, numbers in summaries(compared)
    ]


def value_cell(numbers: Mapping[str, Any], name: str) -> Any:
    """Return a number, with its interval if it has one: `60.4 [53.1, 67.2]`."""
    interval = numbers.get(f"{name}_interval")
    if interval is None:
        return numbers[name]
    low, high = interval
    return f"{cell(name, numbers[name])} [{low:.1f}, {high:.1f}]"


def table(rows: Sequence[Mapping[str, Any]], *notes: str) -> str:
    """Format rows with the same columns as a Markdown table, with notes below."""
    rule = ["---" if isinstance(value, str) else "---:" for value in rows[0].values()]
    lines = [list(rows[0]), rule, *([cell(*named) for named in row.items()] for row in rows)]
    text = "".join(f"| {' | '.join(map(_as_text, line))} |\n" for line in lines)
    return "\n".join([text, *(f"{note}\n" for note in notes)])


def _as_text(content: str) -> str:
    """Escape what Markdown takes for HTML or for the end of a cell."""
    return content.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def cell(name: str, value: str | float | None) -> str:
    """Format a value of the column with this name."""
    match value:
        case None:
            return "-"
        case float():
            # With few instances per image, tenths would be too coarse.
            return f"{value:.2f}" if name == "count_error" else f"{value:.1f}"
        case int():
            return f"{value:,}"
    return value


def write_per_class(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write the metrics of all classes as CSV, one row per method, protocol and class."""
    rows = [
        {"method": method, "protocol": protocol, "class": class_name, **numbers}
        for method, protocol, summary in summaries(metrics)
        for class_name, numbers in summary["per_class"].items()
    ]
    _write_csv(path, rows)


def write_by_class(path: Path, metrics: Mapping[str, Any], number: str, also: str) -> None:
    """Write one metric of the protocol `wise` as CSV, one row per class (WISE, table 2).

    One column per method, and for `also` in any case; unknown values are empty.
    """
    per_class = {method: protocols["wise"]["per_class"] for method, protocols in metrics.items()}
    rows = [
        {"class": name, **{method: values[name][number] for method, values in per_class.items()}}
        for name in next(iter(per_class.values()))
    ]
    for row in rows:
        row.setdefault(also)
    _write_csv(path, rows)


def _no_formula(value: Any) -> Any:
    """Put an apostrophe before a name that a spreadsheet would take for a formula."""
    return f"'{value}" if isinstance(value, str) and files.is_formula(value) else value


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    lines = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    lines.writeheader()
    lines.writerows({key: _no_formula(value) for key, value in row.items()} for row in rows)
    files.write_bytes(path, text.getvalue().encode())
