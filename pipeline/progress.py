"""Progress with a time to go: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 15.0


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield the `items`, of which there are `total`, and show on stderr how far they are."""
    show = _bar if sys.stderr.isatty() else _lines
    return show(items, total, what)


def _bar(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=what)


def _lines(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    start = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            to_go = (now - start) / done * (total - done)
            print(f"{what}: {done}/{total}, {to_go:.0f} s to go", file=sys.stderr, flush=True)
            last = now
    taken = time.monotonic() - start
    print(f"{what}: {done}/{total} in {taken:.0f} s", file=sys.stderr, flush=True)
