"""`wise`: what a person types beside `dvc`. One module a command, of the same name."""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.common.errors import InputError

# The first line of what each command says about itself: to list them, none is imported.
COMMANDS = {
    "preset": "Write a preset into params.yaml.",
    "new": "Make a working copy of the pipeline for your photographs.",
    "check": "Read the whole dataset once; say what is wrong or weak.",
    "proposals": "Describe stores of proposals, or draw those of one image.",
    "peaks": "Describe stores of peaks, or draw those of one image.",
    "predictions": "Describe stores of instances, or draw those of one image.",
    "predict": "Find the instances of new photographs with the trained detector.",
    "figure": "Draw a few photographs with all that was made of them.",
    "seeds": "Run an experiment over several seeds; print mean and deviation.",
    "export": "Take away the detector, or the pseudo masks.",
    "parameters": "Print all parameters with default, range and effect.",
}
# A docstring's paragraphs are filled anew for the width of the terminal.
HELP: dict[str, Any] = {"rich_markup_mode": "markdown"}


class Commands(TyperGroup):
    """Commands that are imported when they are called: some need torch, which takes seconds."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, line in COMMANDS.items():
            self.add_command(TyperCommand(name, help=line))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is meant, and import it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest


def load(name: str) -> Any:
    """Import a command: the function, or the group, that is called as its module is."""
    command = getattr(importlib.import_module(f"wise.{name}"), name)
    if isinstance(command, typer.Typer):
        return typer.main.get_command(command)
    alone = typer.Typer(**HELP, add_completion=False)
    alone.command(name)(command)
    return typer.main.get_command(alone)


app = typer.Typer(**HELP, cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def about() -> None:
    """Instance masks and a trained Mask R-CNN from image-level tags.

    Example: wise new cats --images ~/photographs --tags ~/photographs/tags.csv
    """


def main() -> None:
    """Run a command: exit status 1 and one line for what a user can mend, 2 for wrong usage."""
    try:
        app()
    except InputError as error:
        sys.exit(f"wise: {error}")
