"""The numbers of an evaluation as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation import summaries
from pipeline.recall import quality_rows

_METHODS = (
    "All but the counts in percent. pseudo_masks are ranked by objectness and never cut by score."
)
_PROPOSALS = (
    "In percent. AR@k: average recall of the first k proposals over IoU 0.50 to 0.95; overlap@k: "
    "best overlap with an instance, mean over instances, and over classes; above: instances with "
    "a proposal of at least that IoU. small, medium, large: as COCO, up to 32 and 96 pixels a side."
)
_PEAKS = (
    "In percent. hit_instances: under a peak of their class; right_peaks: on an instance of their "
    "class; placed_peaks: of the right ones, in a proposal; then the IoU of that instance with the "
    "best proposal there, with the most object-like, with the drawn ones."
)


def tables(
    metrics: Mapping[str, Any], quality: Mapping[str, Any], source: Mapping[str, Any]
) -> str:
    """Tables of methods, of proposals by size, and of peaks by class.

    `metrics` are those of pipeline.evaluation by method, `quality` those of pipeline.recall;
    `source` are the attributes of the proposals, whose method and supervision stand under every
    table.
    """
    supervision = f"Proposals: {source['method']}. Their supervision: {source['supervision']}"
    of_proposals = quality_rows("proposals of", quality["proposals"], "by_size")
    of_peaks = quality_rows("peaks of", quality["peaks"], "per_class")
    return "\n".join(
        [
            _table(_method_rows(metrics), _METHODS, supervision),
            _table(of_proposals, _PROPOSALS, supervision),
            _table(of_peaks, _PEAKS, supervision),
        ]
    )


def _method_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"method": method, "protocol": protocol}
        | {name: value for name, value in summary.items() if name != "per_class"}
        for method, protocol, summary in summaries(metrics)
    ]


def _table(rows: Sequence[Mapping[str, Any]], *notes: str) -> str:
    rule = ["---" if isinstance(value, str) else "---:" for value in rows[0].values()]
    lines = [list(rows[0]), rule, *([_cell(value) for value in row.values()] for row in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return "\n".join([table, *(f"{note}\n" for note in notes)])


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
