"""What every stage script shares: its parameters, its scratch folder, its one-line errors."""

import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from filelock import FileLock, Timeout

from pipeline import runtime
from pipeline.artifacts import files
from pipeline.errors import InputError
from pipeline.parameters import Parameters

PARAMETERS_FILE = Path("params.yaml")
PIPELINE_FILE = Path("dvc.yaml")
SHELF = Path("data")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Model = TypeVar("Model", bound=Parameters)
Result = TypeVar("Result")


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
    again only by a run with the same parameters, inputs and code. DVC runs a queued experiment
    in a copy of the project that goes with it; its scratch lies in the project itself.

    Raises
    ------
    InputError
        If another run of the same work is under way.
    """
    folder = Path(os.environ.get("DVC_ROOT", "."), ".scratch", stage, _digest(stage))
    folder.mkdir(parents=True, exist_ok=True)
    if not runtime.is_main_process():
        yield folder
        return
    # The system lets go of the lock however the process ends.
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another run of this stage is at work in {folder}; wait until it has ended"
        ) from None
    with held:
        folder.mkdir(exist_ok=True)
        yield folder
        shutil.rmtree(folder)


def once(unfinished: Path, name: str, work: Callable[..., Result], *of: Any) -> Result:
    """Do a part of a stage's work and keep its result in the scratch folder, or find it there."""
    place = unfinished / ".once" / name
    if not place.exists():
        files.write_bytes(place, pickle.dumps(work(*of)))
    result: Result = pickle.loads(place.read_bytes())
    return result


def shelve(finished: Path, place: Path) -> None:
    """Move a finished file or folder to its place on the shelf, over what was there.

    What is on the shelf is whole at every moment: two renames, and what was there goes with the
    scratch folder.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    replaced = finished.with_name(f"{finished.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if place.is_dir():
        place.rename(replaced)
    finished.rename(place)


def run(stage: Callable[[], None]) -> None:
    """Run a stage as a script: exit status 1 and one line for what a user can mend."""
    runtime.keep_freed_memory()
    name = Path(sys.argv[0]).stem
    try:
        stage()
    except InputError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        where = error.filename or Path.cwd()
        sys.exit(
            f"{name}: {where}: {error.strerror}; what was finished is kept: make room, run again"
        )


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
    files = [
        file
        for dependency in entry["deps"]
        for file in _files(Path(_resolve(dependency, parameters)))
    ]
    # Contents, not times: a file can change without its time, and a checkout changes all times.
    with ThreadPoolExecutor() as threads:
        for file, content in zip(files, threads.map(_sha256, files), strict=True):
            digest.update(f"{file} {content}\n".encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file for file in found if file.is_file() and "__pycache__" not in file.parts]


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _resolve(dependency: str, parameters: dict[str, Any]) -> str:
    """Fill in DVC's `${stage.key}` templates."""
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(_lookup(parameters, found[1])), dependency)


def _lookup(parameters: dict[str, Any], dotted: str) -> Any:
    value: Any = parameters
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
