"""`wise`: what a person types beside `dvc`. One module a command, of the same name."""

import sys

import typer

from pipeline.errors import InputError
from wise.preset import preset

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


@app.callback()
def about() -> None:
    """Instance masks and a trained Mask R-CNN from image-level tags."""


app.command()(preset)


def main() -> None:
    """Run a command: exit status 1 and one line for what a user can mend, 2 for wrong usage."""
    try:
        app()
    except InputError as error:
        sys.exit(f"wise: {error}")
