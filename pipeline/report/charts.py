"""Line charts, which page.html draws as SVG and repeats as tables."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.common.errors import InputError
from pipeline.evaluation.reliability import BINS, Curve

# Size of the drawing and edges of the plot in it, in units of the SVG's view box.
WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 40, 350, 12, 178
_MAX_LABELS = 8


@dataclass(frozen=True)
class Series:
    """A named line with one value for each x, or None where there is no value."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    position: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be drawn. `paths` are SVG path data, one for each series."""

    title: str
    x_name: str
    x_labels: Sequence[str]
    series: Sequence[Series]
    paths: Sequence[str]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]


@dataclass(frozen=True)
class Plot:
    """A table as DVC plots it: a label for each x, and a series for each column."""

    labels: Sequence[str]
    series: Sequence[Series]

    def known(self) -> list[Series]:
        """Return the series that have at least one value."""
        return [line for line in self.series if set(line.values) != {None}]


def line_chart(title: str, x_name: str, x_labels: Sequence[str], series: Sequence[Series]) -> Chart:
    """Lay out a chart of non-negative values over evenly spaced labels."""
    known = [value for line in series for value in line.values if value is not None]
    levels = axis(max(known, default=0.0))
    x = [_between(LEFT, RIGHT, (k + 0.5) / len(x_labels)) for k in range(len(x_labels))]
    every = math.ceil(len(x_labels) / _MAX_LABELS)
    return Chart(
        title=title,
        x_name=x_name,
        x_labels=x_labels,
        series=series,
        paths=[_path(x, line.values, levels[-1]) for line in series],
        x_ticks=[Tick(x[k], x_labels[k]) for k in range(0, len(x_labels), every)],
        y_ticks=[Tick(_height(level, levels[-1]), f"{level:g}") for level in levels],
    )


def axis(highest: float) -> list[float]:
    """Return evenly spaced round numbers from 0 to at least `highest`."""
    if highest <= 0:
        return [0.0, 1.0]
    power = 10 ** math.floor(math.log10(highest))
    step = next(s * power for s in (0.2, 0.5, 1, 2) if highest <= 5 * s * power)
    return [round(k * step, 10) for k in range(math.ceil(highest / step) + 1)]


def training_chart(title: str, folder: Path) -> Chart:
    """Chart the metrics that DVCLive logged in a folder, epoch by epoch.

    Raises
    ------
    InputError
        If there are none, or one is not a table of numbers.
    """
    metrics = folder / "plots" / "metrics"
    plots = {path: read_plot(path) for path in sorted(metrics.rglob("*.tsv"))}
    if not plots:
        raise InputError(f"{metrics}: no curves; the stage that writes them has not run")
    series = [
        Series(str(path.relative_to(metrics).with_suffix("")), column.values)
        for path, plot in plots.items()
        for column in plot.series
    ]
    if len(series) == 2:  # a single term, which equals the sum
        series = [line for line in series if line.name != "loss"]
    epochs = max(len(line.values) for line in series)
    return line_chart(title, "epoch", [str(k + 1) for k in range(epochs)], series)


def reliability_chart(title: str, curves: Mapping[str, Curve]) -> Chart:
    """Chart the share of right detections, in percent, over their score: a line per method."""
    centers = [(number + 0.5) / BINS for number in range(BINS)]
    ideal = Series("ideal", [100 * center for center in centers])
    lines = [
        Series(method, [None if right is None else 100 * right for right in curve.right])
        for method, curve in curves.items()
    ]
    return line_chart(title, "score", [f"{center:g}" for center in centers], [ideal, *lines])


def read_plot(path: Path) -> Plot:
    """Read a table of numbers. Its first column is x.

    Raises
    ------
    InputError
        If it is missing, or not a table of numbers.
    """
    delimiter = "\t" if path.suffix == ".tsv" else ","
    try:
        with path.open(newline="") as file:
            (_, *names), *rows = csv.reader(file, delimiter=delimiter)
        columns = [[_number(value) for value in row[1:]] for row in rows]
        labels = [f"{float(row[0]):g}" for row in rows]
        series = [Series(n, v) for n, v in zip(names, zip(*columns, strict=True), strict=True)]
    except FileNotFoundError:
        raise InputError(f"{path}: missing; the stage that writes it has not run") from None
    except ValueError as error:
        raise InputError(f"{path}: not a table of numbers ({error})") from None
    return Plot(labels, series)


def _number(text: str) -> float | None:
    return None if text in ("", "nan") else float(text)


def _path(x: Sequence[float], values: Sequence[float | None], highest: float) -> str:
    """Return the path data of a line, with gaps where values are missing."""
    commands, pen = [], "M"
    for position, value in zip(x, values, strict=False):  # a shorter line ends early
        if value is None:
            pen = "M"
            continue
        # A line of length 0 with round ends shows a value between missing ones as a dot.
        dot = "h0" if pen == "M" else ""
        commands.append(f"{pen}{position:.1f} {_height(value, highest):.1f}{dot}")
        pen = "L"
    return "".join(commands)


def _height(value: float, highest: float) -> float:
    return _between(BOTTOM, TOP, value / highest)


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share
