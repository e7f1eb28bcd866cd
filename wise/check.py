"""`wise check`: checks a dataset before a long run."""

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
    """Check the whole dataset; print errors and warnings.

    Every photograph is decoded. If there is no error, the time of a run on this machine is
    estimated as well. The exit status is 1 if there are errors, otherwise 0.

    Example: wise check
    """
    with contextlib.chdir(root()):
        parameters = read_parameters(DatasetParameters, "dataset")
        checked = check_dataset(parameters, Path(parameters.path))
        timed = None
        if checked.splits is not None and not _has_errors(checked):
            try:
                timed = _estimate(checked.splits)
            except InputError as error:
                checked.problems.append(Problem("error", str(error)))
    if as_json:
        typer.echo(_json(checked, timed))
    else:
        _print(checked, timed)
    if _has_errors(checked):
        raise typer.Exit(1)


def _has_errors(checked: Checked) -> bool:
    return any(problem.level == "error" for problem in checked.problems)


def _estimate(splits: dict[str, Split]) -> "Estimate":
    # It imports all networks, which takes seconds that `wise --help` does not need.
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
        typer.echo(f"{name}: {len(split.photographs)} readable photographs")
    if not timed:
        typer.echo("fix the errors and check again; without errors, the time of a run is estimated")
        return
    typer.echo("time of a run on this machine, estimated from a few images and steps:")
    for stage, seconds in {**timed.seconds, "start of all stages": timed.start_seconds}.items():
        typer.echo(f"  {stage}: {duration(seconds)}")
    typer.echo(
        f"  total: {duration(timed.total())}, plus less than a minute per thousand photographs "
        f"for each of {', '.join(timed.not_timed)}"
    )
    typer.echo(
        f"disk: {timed.stored_bytes / 1e6:.0f} MB for proposals, peaks and networks, and the same "
        f"in DVC's cache; {timed.free_bytes / 1e9:.1f} GB are free. The photographs "
        f"({timed.photograph_bytes / 1e6:.0f} MB) are not copied"
    )
