"""Unfinished work of a stage: kept when the stage is killed, removed when it is done."""

import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from pipeline.common import files, runtime
from pipeline.common.errors import InputError
from stages.common.parameters import PARAMETERS_FILE, PIPELINE_FILE, read_yaml

Result = TypeVar("Result")


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


def _digest(stage: str) -> str:
    parameters = read_yaml(PARAMETERS_FILE)
    entry = read_yaml(PIPELINE_FILE)["stages"][stage]
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
