"""The command line interface `wise`, and `load`, its detectors for Python.

Each command is a module of the same name.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.common.errors import InputError

if TYPE_CHECKING:
    from pipeline.delivery.detector import Detector

# The first line of each command's help: listing the commands imports none of them.
COMMANDS = {
    "preset": "Write a preset to params.yaml.",
    "new": "Make a working copy of the pipeline for your photographs.",
    "check": "Check the whole dataset; print errors and warnings.",
    "proposals": "Describe stores of proposals, or draw those of one image.",
    "peaks": "Describe stores of peaks, or draw those of one image.",
    "predictions": "Describe stores of instances, or draw those of one image.",
    "predict": "Detect instances in new photographs with a trained detector.",
    "figure": "Draw a few photographs with the results of each stage.",
    "seeds": "Run an experiment over several seeds; print mean and standard deviation.",
    "export": "Export the detector or the pseudo masks.",
    "parameters": "Print all parameters with default, range and effect.",
}
# Paragraphs of docstrings are wrapped to the width of the terminal.
HELP: dict[str, Any] = {"rich_markup_mode": "markdown"}


class Commands(TyperGroup):
    """Commands that are imported when called: some import torch, which takes seconds."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, line in COMMANDS.items():
            self.add_command(TyperCommand(name, help=line))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is called."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, command_of(name) if name else None, rest


def command_of(name: str) -> Any:
    """Import a command: the function or group with the name of its module."""
    command = getattr(importlib.import_module(f"wise.{name}"), name)
    if isinstance(command, typer.Typer):
        return typer.main.get_command(command)
    alone = typer.Typer(**HELP, add_completion=False)
    alone.command(name)(command)
    return typer.main.get_command(alone)


def load(detector: str | os.PathLike[str] | None = None, min_score: float = 0.5) -> "Detector":
    """Load a trained detector, for use in Python.

    Parameters
    ----------
    detector : name of a detector that comes with this software, a weights file, or the folder of a
        project; by default as `wise predict` chooses.
    min_score : minimum score of an instance, 0 to 1.

    Returns
    -------
    A function of a photograph (a path, an image of Pillow, or RGB, uint8 (h, w, 3)) that returns
    its instances: `masks`, bool (n, h, w); `boxes`, float32 (n, 4), x1 y1 x2 y2 in pixels;
    `labels`, n class names; `scores`, float32 (n,), descending.

    Raises
    ------
    InputError
        If there is no such detector, or its file or its settings are invalid.

    Examples
    --------
    >>> import skimage, wise
    >>> detector = wise.load("animals")
    >>> found = detector(skimage.data.chelsea())
    """
    from wise.detector import choose  # it imports torch, which takes seconds: not for `wise --help`

    return choose(None if detector is None else os.fspath(detector), min_score).detector


app = typer.Typer(**HELP, cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def about() -> None:
    """Instance masks and a trained Mask R-CNN from image-level tags.

    Example: wise new cats --images ~/photographs --tags ~/photographs/tags.csv
    """


def main() -> None:
    """Run a command; exit with status 1 and one line on an input error, 2 on wrong usage.

    Errors of the file system (no permission, no room, no folder) are input errors, too.
    """
    try:
        app()
    except InputError as error:
        sys.exit(f"wise: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"wise: {InputError(f'{where}{error.strerror or error}')}")
