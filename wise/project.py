"""The project of a command: the nearest parent folder with dvc.yaml."""

from pathlib import Path

from pipeline.artifacts.split import Split
from pipeline.common.errors import InputError
from stages.common.shelf import Shelf


def root() -> Path:
    """Find the project around the working directory.

    Raises
    ------
    InputError
        If the working directory is not inside a project.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "stages").is_dir():
            return folder
    raise InputError(f"{here}: not in a project, which is a folder with dvc.yaml and stages/")


def read_split(name: str) -> Split:
    """Read the project's split `train` or `val`, with an absolute root of its photographs."""
    project = root()
    split = Shelf(project).splits[name].open()
    return split.model_copy(update={"root": str(project / split.root)})
