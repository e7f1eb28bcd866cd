"""Write the table and the figure of docs/results/README.md: `python -m benchmarks.overview`.

Each run has a folder in docs/results with metrics.json, and run.yaml, which says what cannot be
read there. The figure shows mAP50 under the protocol `wise` with its 95 % interval.
"""

import json
from html import escape
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from benchmarks.table import ROOT
from pipeline.common import files

RESULTS = ROOT / "docs" / "results"
BEGIN, END = "<!-- begin: benchmarks.overview -->\n", "<!-- end -->\n"
HEADER = (
    "| run | supervision | proposals | protocol | mAP50 of `wise+refine` | upper bound | of it "
    "| hours |\n| --- | --- | --- | --- | ---: | ---: | ---: | ---: |\n"
)
METHODS = ("prm", "wise", "wise+refine", "mask_rcnn_gt")
# In units of the drawing: a row, the width of the names, of the plot, and a point of mAP50.
ROW, NAMES, PLOT, POINT = 22, 400, 400, 4


class Run(BaseModel):
    """What is known of a run besides its metrics.

    title : what was run.
    order : its place in the table.
    supervision : what training saw of the target photographs.
    proposals : what the proposals have seen.
    hours : wall time in words.
    """

    model_config = ConfigDict(extra="forbid")

    title: str
    order: int
    supervision: str
    proposals: str
    hours: str


def main() -> None:
    """Write docs/results/README.md between its marks, and overview.svg beside it."""
    places = {
        place.parent: Run.model_validate(yaml.safe_load(place.read_text()))
        for place in RESULTS.glob("*/run.yaml")
    }
    runs = [
        (place.name, run, json.loads((place / "metrics.json").read_text()))
        for place, run in sorted(places.items(), key=lambda item: item[1].order)
    ]
    page = RESULTS / "README.md"
    before, rest = page.read_text().split(BEGIN)
    rows = "".join(row for run in runs for row in table_rows(*run))
    text = f"{before}{BEGIN}{HEADER}{rows}{END}{rest.split(END)[1]}"
    files.write_bytes(page, text.encode())
    files.write_bytes(RESULTS / "overview.svg", figure(runs).encode())


def table_rows(name: str, run: Run, metrics: dict[str, Any]) -> list[str]:
    """Write a row for each protocol."""
    return [
        f"| [{run.title}]({name}/README.md) | {run.supervision} | {run.proposals} | {protocol} | "
        f"{of_interval(metrics['wise+refine'][protocol])} | {bound(metrics, protocol)} | "
        f"{run.hours} |\n"
        for protocol in ("wise", "coco")
    ]


def of_interval(summary: dict[str, Any]) -> str:
    """Write mAP50 with its interval."""
    low, high = summary["mAP50_interval"]
    return f"{summary['mAP50']:.1f} [{low:.1f}, {high:.1f}]"


def bound(metrics: dict[str, Any], protocol: str) -> str:
    """Write mAP50 of the upper bound and the fraction of it that is reached, in two cells."""
    if "mask_rcnn_gt" not in metrics:
        return "- | -"
    highest = metrics["mask_rcnn_gt"][protocol]
    share = metrics["wise+refine"][protocol]["mAP50"] / highest["mAP50"]
    return f"{of_interval(highest)} | {share:.0%}"


def figure(runs: list[tuple[str, Run, dict[str, Any]]]) -> str:
    """Draw mAP50 of every method of every run, with its interval, as SVG."""
    lines = [
        (f"{run.title}: {method}", metrics[method]["wise"])
        for _, run, metrics in runs
        for method in METHODS
        if method in metrics
    ]
    height = ROW * (len(lines) + 1) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {NAMES + PLOT + 20} {height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for value in range(0, 101, 20):
        x = NAMES + POINT * value
        parts.append(f'<path d="M{x} 6V{height - ROW}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{height - 6}" text-anchor="middle">{value}</text>')
    for number, (name, summary) in enumerate(lines):
        y = ROW * (number + 0.5) + 6
        points = (summary["mAP50"], *summary["mAP50_interval"])
        value, low, high = (NAMES + POINT * point for point in points)
        parts.append(f'<text x="{NAMES - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="#06c" stroke-width="2"/>')
        parts.append(f'<circle cx="{value:.1f}" cy="{y}" r="4" fill="#06c"/>')
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    main()
