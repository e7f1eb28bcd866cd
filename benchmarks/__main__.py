"""Print one table over all benchmarks, or over those named: `python -m benchmarks [NAME...]`."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from benchmarks.table import Line, print_table
from pipeline import runtime
from pipeline.errors import InputError

HERE = Path(__file__).parent
NAMES = sorted(
    file.stem for file in HERE.glob("*.py") if file.stem[0] != "_" and file.stem != "table"
)


def main(names: list[str]) -> None:
    """Print the table of the benchmarks named, or of all."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise InputError(
            f"benchmarks {unknown[0]}: no such benchmark; there are {', '.join(NAMES)}"
        )
    runtime.keep_freed_memory()  # as every stage does
    print_table(_lines(names or NAMES))


def _lines(names: list[str]) -> Iterator[Line]:
    for name in names:
        yield from import_module(f"benchmarks.{name}").lines()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
