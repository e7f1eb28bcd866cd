"""`wise`: what a person types beside `dvc`. One module a command, of the same name."""

import sys

import typer

from pipeline.errors import InputError
from wise.check import check
from wise.export import export
from wise.new import new
from wise.parameters import parameters
from wise.peaks import peaks
from wise.predict import predict
from wise.predictions import predictions
from wise.preset import preset
from wise.proposals import proposals

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


@app.callback()
def about() -> None:
    """Instance masks and a trained Mask R-CNN from image-level tags."""


app.command()(preset)
app.command()(new)
app.command()(check)
app.command()(proposals)
app.command()(peaks)
app.command()(predictions)
app.command()(predict)
app.command()(export)
app.command()(parameters)


def main() -> None:
    """Run a command: exit status 1 and one line for what a user can mend, 2 for wrong usage."""
    try:
        app()
    except InputError as error:
        sys.exit(f"wise: {error}")
