"""The metrics of an evaluation as Markdown and CSV tables."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.common import files
from pipeline.evaluation.stage_quality import quality_rows
from pipeline.evaluation.summary import OF_BOXES_AND_COUNTS, summaries

ABOUT_MASKS = (
    "All values except counts are in percent. Methods without a confidence have no score "
    "threshold: pseudo_masks are ranked by objectness, prm by class and fit to the peak. "
    "mask_rcnn_gt, if there is "
    "such a row, is the upper bound: it alone has learnt from true masks."
)
ABOUT_INTERVALS = (
    "In brackets: 95 % bootstrap interval over images (1,000 resamples). It says how far mAP may "
    "differ on other images, not with another seed."
)
ABOUT_DIFFERENCES = (
    "Differences on the same images, in points, and their 95 % bootstrap interval over images "
    "(1,000 resamples). Only an interval that leaves out 0 says that one method is better."
)
ABOUT_BOXES_AND_COUNTS = (
    "box_mAP: as mAP, of the boxes around masks; CorLoc: of the images with a class, those whose "
    "highest-scored detection of it overlaps the box of an instance by 0.5 or more; both in "
    "percent, means over classes. count_error: instances found too many or too few, mean over "
    "images; '-' where detections are ranked by confidence but not cut by it."
)
_ABOUT_PROPOSALS = (
    "In percent. AR@k: average recall of the first k proposals over IoU 0.50 to 0.95; overlap@k: "
    "best IoU with an instance, as mean over instances or over classes; above: instances with a "
    "proposal of at least this IoU. small, medium, large: as in COCO, up to 32 and 96 pixels per "
    "side."
)
_ABOUT_PEAKS = (
    "In percent. hit_instances: instances under a peak of their class; right_peaks: peaks on an "
    "instance of their class; covered_peaks: right peaks that lie in a proposal; best, "
    "top_scoring, drawn: IoU of the instance with the best, the top-scoring and the drawn "
    "proposals at the peak. pseudo_masks: masks of the first epoch; precision, recall, F1: theirs "
    "at IoU 0.50."
)


def of_evaluation(
    metrics: Mapping[str, Any],
    compared: Mapping[str, Any],
    quality: Mapping[str, Any],
    source: Mapping[str, Any],
) -> str:
    """Tables of methods (masks, then boxes and counts), of proposals by size, of peaks by class.

    `metrics` are those of pipeline.evaluation by method, `quality` those of pipeline.recall;
    `source` are the attributes of the proposals, whose method and supervision stand under every
    table.
    """
    supervision = f"Proposals: {source['method']}. Their supervision: {source['supervision']}"
    of_proposals = quality_rows("proposals of", quality["proposals"], "by_size")
    of_peaks = quality_rows("peaks of", quality["peaks"], "per_class")
    return "\n".join(
        [
            of_methods(metrics, compared, supervision),
            table(of_proposals, _ABOUT_PROPOSALS, supervision),
            table(of_peaks, _ABOUT_PEAKS, supervision),
        ]
    )


def of_methods(metrics: Mapping[str, Any], compared: Mapping[str, Any], *notes: str) -> str:
    """Tables of methods: masks, differences (if any), boxes and counts."""
    of_differences = difference_rows(compared)
    parts = [table(_method_rows(metrics, of_masks), ABOUT_MASKS, ABOUT_INTERVALS, *notes)]
    if of_differences:
        parts.append(table(of_differences, ABOUT_DIFFERENCES, *notes))
    of_boxes = _method_rows(metrics, of_boxes_and_counts)
    return "\n".join([*parts, table(of_boxes, ABOUT_BOXES_AND_COUNTS, *notes)])


def of_masks(summary: Mapping[str, Any]) -> list[str]:
    """Names of the counts and of the metrics of masks."""
    others = (*OF_BOXES_AND_COUNTS, "per_class")
    return [n for n in summary if not n.startswith(others) and not n.endswith("_interval")]


def of_boxes_and_counts(summary: Mapping[str, Any]) -> list[str]:
    """Names of the metrics of boxes and counts."""
    return [name for name in summary if name.startswith(OF_BOXES_AND_COUNTS)]


def _method_rows(
    metrics: Mapping[str, Any], columns: Callable[[Mapping[str, Any]], list[str]]
) -> list[dict[str, Any]]:
    return [
        {"method": method, "protocol": protocol}
        | {name: value_cell(summary, name) for name in columns(summary)}
        for method, protocol, summary in summaries(metrics)
    ]


def difference_rows(compared: Mapping[str, Any]) -> list[dict[str, str]]:
    """Differences between methods, as rows of a table."""
    return [
        {"difference": pair, "protocol": protocol}
        | {name: value_cell(numbers, name) for name in of_masks(numbers)}
        for pair, protocol, numbers in summaries(compared)
    ]


def value_cell(numbers: Mapping[str, Any], name: str) -> Any:
    """A number, with its interval where it has one: `60.4 [53.1, 67.2]`."""
    interval = numbers.get(f"{name}_interval")
    if interval is None:
        return numbers[name]
    low, high = interval
    return f"{cell(name, numbers[name])} [{low:.1f}, {high:.1f}]"


def table(rows: Sequence[Mapping[str, Any]], *notes: str) -> str:
    """Format rows with the same columns as a table, with a note below."""
    rule = ["---" if isinstance(value, str) else "---:" for value in rows[0].values()]
    lines = [list(rows[0]), rule, *([cell(*named) for named in row.items()] for row in rows)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return "\n".join([text, *(f"{note}\n" for note in notes)])


def cell(name: str, value: str | float | None) -> str:
    """Format a value for the column of that name."""
    match value:
        case None:
            return "-"
        case float():
            # Of few instances an image, tenths would be coarse.
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


def write_by_class(path: Path, metrics: Mapping[str, Any], number: str) -> None:
    """Write one metric of the protocol `wise` as CSV, one row per class (WISE, table 2).

    A column a method; an empty cell where nothing is known.
    """
    of_methods = {method: of_method["wise"]["per_class"] for method, of_method in metrics.items()}
    rows = [
        {"class": name, **{method: of[name][number] for method, of in of_methods.items()}}
        for name in next(iter(of_methods.values()))
    ]
    _write_csv(path, rows)


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    lines = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    files.write_bytes(path, text.getvalue().encode())
