"""`wise check`: finds errors and weaknesses of a dataset before a long run."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.artifacts.split import Split
from pipeline.common.errors import InputError
from pipeline.common.progress import duration
from pipeline.dataset.check import Checked, Problem
from pipeline.dataset.check import check as check_dataset
from pipeline.dataset.index import DatasetParameters
from stages.common.parameters import read_parameters
from wise.project import root

if TYPE_CHECKING:
    from wise.estimate import Estimate


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Read the whole dataset once; report errors and weaknesses.

    Without errors, it also estimates the time of a run on this machine.
    The exit status is 1 if there are errors, otherwise 0.

    Example: wise check
    """
    with contextlib.chdir(root()):
        parameters = read_parameters(DatasetParameters, "dataset")
        checked = check_dataset(parameters, Path(parameters.path))
        timed = None
        if checked.splits is not None and not _is_wrong(checked):
            try:
                timed = _estimate(checked.splits)
            except InputError as error:
                checked.problems.append(Problem("wrong", str(error)))
    if as_json:
        typer.echo(_json(checked, timed))
    else:
        _print(checked, timed)
    if _is_wrong(checked):
        raise typer.Exit(1)


def _is_wrong(checked: Checked) -> bool:
    return any(problem.level == "wrong" for problem in checked.problems)


def _estimate(splits: dict[str, Split]) -> "Estimate":
    # All networks: what `wise --help` has no use for takes seconds to import.
    from wise.estimate import Settings, estimate

    settings = {
        stage: read_parameters(model, stage) for stage, model in Settings.__annotations__.items()
    }
    return estimate(splits, Settings(**settings))


def _json(checked: Checked, timed: "Estimate | None") -> str:
    content = {
        "problems": [problem._asdict() for problem in checked.problems],
        "images": {name: len(split.photographs) for name, split in (checked.splits or {}).items()},
        "estimate": {**timed._asdict(), "total_seconds": timed.total()} if timed else None,
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _print(checked: Checked, timed: "Estimate | None") -> None:
    for problem in checked.problems:
        typer.echo(f"{problem.level}: {problem.message}")
    for name, split in (checked.splits or {}).items():
        typer.echo(f"{name}: {len(split.photographs)} photographs that can be read")
    if not timed:
        typer.echo("mend what is wrong, then check again; a run is timed when nothing is")
        return
    typer.echo("the run here, estimated from a few images and steps:")
    for stage, seconds in {**timed.seconds, "starts of stages": timed.start_seconds}.items():
        typer.echo(f"  {stage}: {duration(seconds)}")
    typer.echo(
        f"  together: {duration(timed.total())}, and less than a minute a thousand photographs "
        f"for each of {', '.join(timed.not_timed)}"
    )
    typer.echo(
        f"disk: {timed.stored_bytes / 1e6:.0f} MB for proposals, peaks and networks, as much again "
        f"in DVC's cache; {timed.free_bytes / 1e9:.1f} GB are free. The photographs, "
        f"{timed.photograph_bytes / 1e6:.0f} MB, are not copied"
    )
