"""Progress with the remaining time: a bar in a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 15.0


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield `items` and show the progress on stderr.

    Parameters
    ----------
    items : iterable of `total` items.
    what : label of the progress bar or lines.
    """
    show = _bar if sys.stderr.isatty() else _lines
    return show(items, total, what)


def duration(seconds: float) -> str:
    """Format a duration in suitable units: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _bar(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("remaining"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=what)


def _lines(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    start = first = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if done == 1:
            first = now
        elif now - last >= SECONDS_BETWEEN_LINES:
            # Only the first item waits for worker processes to start: it is not counted.
            remaining = (now - first) / (done - 1) * (total - done)
            _print(f"{what}: {done}/{total}, {duration(remaining)} remaining")
            last = now
    _print(f"{what}: {done}/{total} in {duration(time.monotonic() - start)}")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
