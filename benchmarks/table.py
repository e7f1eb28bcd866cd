"""The results of benchmarks, and their Markdown table."""

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

from pipeline.common import runtime

ROOT = Path(__file__).parent.parent


class Line(NamedTuple):
    """The cost of a job here and with a peer, measured side by side.

    Attributes
    ----------
    job : description of the job.
    unit : unit of both figures. Higher is better for units with `/s`, lower for all others.
    ours, theirs : the two figures.
    peer : name of the peer.
    note : further information.
    """

    job: str
    unit: str
    ours: float
    peer: str
    theirs: float
    note: str = ""

    @property
    def ratio(self) -> float:
        """The factor by which ours is better."""
        return self.ours / self.theirs if "/s" in self.unit else self.theirs / self.ours


def side_by_side(
    ours: Callable[[], object], theirs: Callable[[], object], runs: int = 9
) -> tuple[float, float]:
    """Time two calls alternately, after a warm-up of each: median seconds of each.

    Other load of the machine slows both.
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
    """Time a call in seconds, including its work on a GPU."""
    start = time.perf_counter()
    call()
    runtime.synchronize(runtime.device())
    return time.perf_counter() - start


def print_table(lines: Iterable[Line]) -> None:
    """Print the machine, and the lines as a Markdown table, each as soon as it is measured."""
    print(machine(), flush=True)
    print("\n| job | unit | ours | peer | theirs | times better | note |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for line in lines:
        print(row(line), flush=True)


def row(line: Line) -> str:
    """Format a line as a row of the table."""
    cells = (line.job, line.unit, _three_digits(line.ours), line.peer, _three_digits(line.theirs))
    return f"| {' | '.join(cells)} | {line.ratio:.2f} | {line.note} |"


def _three_digits(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def machine() -> str:
    """Describe the machine: cores, processor, GPU, versions and commit."""
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
    """Return the short hash of the commit, with `+` if tracked files differ from it."""
    revision = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{revision}{'+' * bool(changed)}" if revision else "unknown"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
