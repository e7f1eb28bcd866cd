"""Print one table over all benchmarks, or over those named: `python -m benchmarks [NAME...]`."""

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module

from benchmarks.table import Line, print_table
from pipeline.common import runtime
from pipeline.common.errors import InputError

NAMES = ("peaks", "proposals", "refinement", "sampling", "training", "scaling")


def main(names: Sequence[str]) -> None:
    """Print the table of the benchmarks named, or of all."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise InputError(
            f"benchmarks {unknown[0]}: no such benchmark; there are {', '.join(NAMES)}"
        )
    runtime.keep_freed_memory()  # as every stage does
    print_table(_lines(names or NAMES))


def _lines(names: Sequence[str]) -> Iterator[Line]:
    for name in names:
        yield from import_module(f"benchmarks.{name}").lines()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
