"""`wise check`: what will go wrong or weak, before hours are spent."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.artifacts.split import Split
from pipeline.check import Checked
from pipeline.check import check as check_dataset
from pipeline.dataset import DatasetParameters
from pipeline.errors import InputError
from stages import read_parameters
from wise.project import root

if TYPE_CHECKING:
    from pipeline.estimate import Estimate


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Read the whole dataset once; say what is wrong or weak.

    If nothing is wrong, also how long a run will take on this machine.
    Exit status 1 if anything is wrong, 0 if all is well or only weak.

    Example: wise check
    """
    with contextlib.chdir(root()):
        parameters = read_parameters(DatasetParameters, "dataset")
        if parameters.kind == "scenes":
            raise InputError("dataset.kind = 'scenes': drawn scenes need no check")
        checked = check_dataset(parameters, Path(parameters.path))
        wrong = any(finding.level == "wrong" for finding in checked.findings)
        timed = None if wrong or checked.splits is None else _estimate(checked.splits)
    if as_json:
        typer.echo(_json(checked, timed))
    else:
        _print(checked, timed)
    if wrong:
        raise typer.Exit(1)


def _estimate(splits: dict[str, Split]) -> "Estimate":
    # All networks: what `wise --help` has no use for takes seconds to import.
    from pipeline.estimate import Settings, estimate

    settings = {
        stage: read_parameters(model, stage) for stage, model in Settings.__annotations__.items()
    }
    return estimate(splits, Settings(**settings))


def _json(checked: Checked, timed: "Estimate | None") -> str:
    content = {
        "findings": [finding._asdict() for finding in checked.findings],
        "images": {name: len(split.photographs) for name, split in (checked.splits or {}).items()},
        "estimate": timed._asdict() if timed else None,
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _print(checked: Checked, timed: "Estimate | None") -> None:
    for finding in checked.findings:
        typer.echo(f"{finding.level}: {finding.message}")
    for name, split in (checked.splits or {}).items():
        typer.echo(f"{name}: {len(split.photographs)} photographs that can be read")
    if not timed:
        typer.echo("mend what is wrong, then check again; a run is timed when nothing is")
        return
    for stage, seconds in timed.seconds.items():
        typer.echo(f"{stage}: about {seconds / 60:.1f} min (estimated from a few images)")
    typer.echo(f"not timed: {', '.join(timed.not_timed)}")
    if timed.proposal_bytes is not None:
        typer.echo(f"proposals: about {timed.proposal_bytes / 1e6:.0f} MB on the disk")
    typer.echo(
        f"free on the disk: {timed.free_bytes / 1e9:.1f} GB; the photographs have "
        f"{timed.photograph_bytes / 1e9:.3f} GB and are not copied"
    )
