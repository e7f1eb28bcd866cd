"""`wise seeds`: mean and standard deviation of an experiment over several seeds."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from dvc.api import read
from dvc.repo import Repo

from pipeline.common.errors import InputError
from pipeline.evaluation import seeds as spread
from stages.common.shelf import Shelf
from stages.common.yaml_files import read_yaml
from wise.project import root

METRICS = str(Shelf().metrics)


def seeds(
    count: Annotated[int, typer.Option(min=2, help="Number of runs.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Run an experiment over several seeds; print mean and standard deviation.

    The parameters are those of params.yaml. Run k adds k to all seeds, starting with 0. Each run
    is a DVC experiment in a copy of the project; the project itself is not changed. Finished
    stages are not repeated: run the command again after an interruption, or for more seeds.

    Example: wise seeds --count 3
    """
    project = root()
    parameters = project / "params.yaml"
    initial = _seeds(read_yaml(parameters))
    digest = hashlib.sha256(parameters.read_bytes()).hexdigest()
    names = [f"seeds-{digest[:6]}-{k}" for k in range(count)]
    copied = untracked_inputs(project)
    runs = []
    for shift, name in enumerate(names):
        shifted = {key: seed + shift for key, seed in initial.items()}
        runs.append(run_experiment(project, name, shifted, copied))
    found = spread.spread(runs)
    if as_json:
        typer.echo(json.dumps({"experiments": names, "methods": found}, indent=1))
    else:
        typer.echo(spread.spread_tables(found, names))


def _seeds(parameters: Mapping[str, Any]) -> dict[str, int]:
    found = spread.seeds(parameters)
    if not found:
        raise InputError("params.yaml: no parameter is called seed, so all runs would be the same")
    for key, seed in found.items():
        if type(seed) is not int:
            raise InputError(f"params.yaml: {key} = {seed!r}: a seed must be an integer")
    return found


def run_experiment(
    project: Path, name: str, parameters: Mapping[str, Any], copied: Sequence[str]
) -> dict[str, Any]:
    """Run an experiment with changed parameters in a copy of the project; return its metrics.

    An earlier experiment of the same name is replaced, but its finished stages are reused.
    `copied` are the inputs that are not tracked by git.

    Raises
    ------
    InputError
        If the experiment fails. DVC prints the reason to stderr.
    """
    changes = [f"--set-param={key}={value}" for key, value in parameters.items()]
    copies = [f"--copy-paths={path}" for path in copied]
    typer.echo(f"{name}: {', '.join(changes)}", err=True)
    _dvc(project, "exp", "remove", "--quiet", name)
    if _dvc(project, "exp", "run", "--temp", f"--name={name}", *changes, *copies, "evaluation"):
        raise InputError(
            f"{name} failed, see above; finished stages are kept, run the command again"
        )
    metrics: dict[str, Any] = json.loads(read(METRICS, repo=str(project), rev=name))
    return {method: entry for method, entry in metrics.items() if "wise" in entry}


def untracked_inputs(project: Path) -> list[str]:
    """List the inputs that neither git nor a stage provides in a copy of the project.

    For example, these are photographs and weights that are too large for git. Paths are relative
    to the project.

    Raises
    ------
    InputError
        If the project is not a git repository with DVC.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=project, capture_output=True, text=True)
    if listed.returncode or not (project / ".dvc").is_dir():
        raise InputError(f"{project}: experiments need a git repository with DVC")
    with Repo(str(project)) as repo:
        made = {Path(out.fs_path) for out in repo.index.outs}
        needed = {Path(dependency.fs_path) for dependency in repo.index.deps}
    known = {project / name for name in listed.stdout.split("\0")}
    known |= {folder for file in known for folder in file.parents}
    missing = [path for path in needed - known if path.is_relative_to(project)]
    # Copying a folder copies its content too.
    alone = [path for path in missing if not {*path.parents} & {*missing, *made} | {path} & made]
    return sorted(str(path.relative_to(project)) for path in alone)


def _dvc(project: Path, *words: str) -> int:
    """Run DVC with its output on stderr, because stdout is for the results."""
    return subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=project, stdout=sys.stderr
    ).returncode
