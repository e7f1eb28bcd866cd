"""The project of a command: the nearest parent folder with dvc.yaml."""

import contextlib
import json
import subprocess
from pathlib import Path

from pipeline.artifacts.split import Split
from pipeline.common.errors import InputError
from stages.common.parameters import PARAMETERS_FILE, lookup
from stages.common.shelf import Shelf
from stages.common.yaml_files import read_yaml


def root() -> Path:
    """Find the project around the working directory.

    Raises
    ------
    InputError
        If the working directory is not inside a project.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if is_project(folder):
            return folder
    raise InputError(f"{here}: not in a project, which is a folder with dvc.yaml and stages/")


def is_project(folder: Path) -> bool:
    """Whether a folder is a project."""
    return (folder / "dvc.yaml").is_file() and (folder / "stages").is_dir()


def read_split(name: str) -> Split:
    """Read the project's split `train` or `val`, with an absolute root of its photographs."""
    project = root()
    split = Shelf(project).splits[name].open()
    return split.model_copy(update={"root": str(project / split.root)})


def others(project: Path) -> str:
    """Say which photographs without a class the classifier was trained on; '' for none."""
    file = Shelf(project).classifier_metrics
    count = json.loads(file.read_text()).get("others") if file.is_file() else None
    source = lookup(read_yaml(project / PARAMETERS_FILE), "prm.others")
    return f"{count:,} photographs of {source}" if count else ""


def commit(project: Path, *paths: str) -> str:
    """Say which commit a project is at, and whether files under `paths` (or any) have changed."""
    revision = output(project, "git", "rev-parse", "HEAD")
    changes = output(project, "git", "status", "--porcelain", "--", *paths)
    if revision is None or changes is None:
        return "none"
    return f"{revision}, with uncommitted changes" if changes else revision


def output(project: Path, *command: str) -> str | None:
    """Return the output of a command in the folder of a project, or None if it fails."""
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(command, cwd=project, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
    return None
