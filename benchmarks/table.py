"""What a benchmark finds, and the Markdown table of it."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).parent.parent


class Line(NamedTuple):
    """A job, what it costs here and what it costs the peer's way, measured side by side.

    job : what is done, on what.
    unit : of both figures. Of units with `/s` more is better, of all others less.
    ours, theirs : the two figures.
    peer : whose or which way the other figure is.
    note : what else a reader needs to judge the line.
    """

    job: str
    unit: str
    ours: float
    peer: str
    theirs: float
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times better ours is."""
        return self.ours / self.theirs if "/s" in self.unit else self.theirs / self.ours


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], runs: int = 9
) -> tuple[float, float]:
    """Time two calls in turns, after one of each to warm up: median seconds of each.

    What else the machine does at the time slows both.
    """
    pair = (ours, theirs)
    seconds: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + 1):
        for call, taken in zip(pair, seconds, strict=True):
            took = timed(call)
            if run:
                taken.append(took)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call, the work it left to a GPU included."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def print_table(lines: Iterable[Line]) -> None:
    """Print every line when it is there, as a Markdown table, and above it the machine."""
    print(machine(), flush=True)
    print("\n| job | unit | ours | peer | theirs | times better | note |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for line in lines:
        print(row(line), flush=True)


def row(line: Line) -> str:
    """A line as a row of the table."""
    cells = (line.job, line.unit, _three_digits(line.ours), line.peer, _three_digits(line.theirs))
    return f"| {' | '.join(cells)} | {line.ratio:.2f} | {line.note} |"


def _three_digits(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def machine() -> str:
    """Describe where the figures come from: cores, processor, GPU, versions and commit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{cores} cores ({_processor()}), {gpu}; {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}; commit {_commit()}"
    )


def _processor() -> str:
    if sys.platform.startswith("linux"):
        for entry in Path("/proc/cpuinfo").read_text().splitlines():
            if entry.startswith("model name"):
                return entry.partition(": ")[2]
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit's short name, `+` where tracked files differ from it."""
    revision = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{revision}{'+' * bool(changed)}" if revision else "unknown"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
