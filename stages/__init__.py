"""What every stage script shares: its parameters, its scratch folder, its one-line errors."""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipeline import runtime
from pipeline.errors import InputError
from pipeline.parameters import Parameters

PARAMETERS_FILE = Path("params.yaml")
PIPELINE_FILE = Path("dvc.yaml")
SHELF = Path("data")

Model = TypeVar("Model", bound=Parameters)


def read_parameters(model: type[Model], stage: str) -> Model:
    """Read and validate the section of params.yaml that belongs to a stage."""
    sections = _read_yaml(PARAMETERS_FILE)
    stages = _read_yaml(PIPELINE_FILE)["stages"]
    if unknown := sorted(set(sections) - set(stages)):
        raise InputError(
            f"{PARAMETERS_FILE}: {unknown[0]}: no stage; there are {', '.join(stages)}"
        )
    if stage not in sections:
        raise InputError(f"{PARAMETERS_FILE}: {stage}: missing")
    return model.parse(sections[stage], stage)


@contextmanager
def scratch(stage: str) -> Iterator[Path]:
    """Yield a folder for unfinished work, kept if the stage is killed, gone when it is done.

    Its name is a digest of what dvc.yaml says the stage depends on, so that work is taken up
    again only by a run with the same parameters, inputs and code.
    """
    folder = Path(".scratch") / stage / _digest(stage)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def shelve(finished: Path, place: Path) -> None:
    """Move a finished file or folder to its place on the shelf, over what was there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    finished.rename(place)


def run(stage: Callable[[], None]) -> None:
    """Run a stage as a script: exit status 1 and one line for what a user can mend."""
    runtime.keep_freed_memory()
    try:
        stage()
    except InputError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: missing; run in the folder of dvc.yaml") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a mapping of stages is needed")
    return content


def _digest(stage: str) -> str:
    parameters = _read_yaml(PARAMETERS_FILE)
    entry = _read_yaml(PIPELINE_FILE)["stages"][stage]
    digest = hashlib.sha256()
    for key in entry.get("params", []):
        digest.update(json.dumps([key, _lookup(parameters, key)]).encode())
    for dependency in entry["deps"]:
        path = Path(_resolve(dependency, parameters))
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{file} {content}\n".encode())
    return digest.hexdigest()


def _resolve(dependency: str, parameters: dict[str, Any]) -> str:
    """Fill in DVC's `${stage.key}` templates."""
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(_lookup(parameters, found[1])), dependency)


def _lookup(parameters: dict[str, Any], dotted: str) -> Any:
    value: Any = parameters
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
