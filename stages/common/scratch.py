"""Unfinished work of a stage: kept when the stage is killed, removed when it is done.

It is in `.scratch/<stage>/<digest>/`, beside the lock file of its run. When a stage finishes, it
also removes its own work of other digests that nothing has touched for two weeks. Removing
`.scratch/` by hand, while no stage runs, clears everything.
"""

import hashlib
import json
import os
import pickle
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from pipeline.common import files, runtime
from pipeline.common.errors import InputError
from stages.common.parameters import PARAMETERS_FILE, PIPELINE_FILE, lookup
from stages.common.yaml_files import read_yaml

Result = TypeVar("Result")

ABANDONED = 14 * 24 * 3600  # seconds after which another digest's work is taken for abandoned
_INPUTS = ".inputs.json"


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
    inputs = _inputs(stage)
    digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    folder = Path(os.environ.get("DVC_ROOT", "."), ".scratch", stage, digest)
    folder.mkdir(parents=True, exist_ok=True)
    if not runtime.is_main_process():
        yield folder
        return
    try:
        lock = _lock(folder)
    except Timeout:
        raise InputError(
            f"another run of this stage is at work in {folder}; wait until it has ended"
        ) from None
    with lock:
        folder.mkdir(exist_ok=True)
        files.write_json(folder / _INPUTS, inputs)
        yield folder
        _remove(folder)
    _remove_abandoned(folder.parent)


def check_inputs(folder: Path) -> None:
    """Compare what the stage depends on with what it was when `scratch` gave the folder.

    DVC hashes dependencies after the command, so that results of an older version would be
    recorded as those of the new one (treeverse/dvc#11058).

    Raises
    ------
    InputError
        If a file or a parameter has changed: the first one is named.
    """
    before, now = json.loads((folder / _INPUTS).read_text()), _inputs(folder.parent.name)
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            raise InputError(
                f"{name}: changed while the stage ran; data/ is as it was: run the stage again"
            )


def _lock(folder: Path) -> FileLock:
    """Take a folder's lock, or raise Timeout. The system releases it however the process ends."""
    # filelock takes no file that the run before removed between its opening and its locking.
    lock = FileLock(folder.with_suffix(".lock"))
    lock.acquire(timeout=0)
    return lock


def _remove(folder: Path) -> None:
    """Remove a folder and its lock file, whose lock is held."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)


def _remove_abandoned(stage: Path) -> None:
    """Remove the work in a stage's folder that is old and that no run is at."""
    for folder in {path.with_suffix("") for path in stage.iterdir()}:
        # Another run may remove the same at the same time.
        with suppress(Timeout, FileNotFoundError):
            if time.time() - _last_touched(folder) > ABANDONED:
                with _lock(folder):
                    _remove(folder)


def _last_touched(folder: Path) -> float:
    parts = [folder.with_suffix(".lock"), folder, *folder.rglob("*")]
    return max((part.stat().st_mtime for part in parts if part.exists()), default=time.time())


def once(unfinished: Path, name: str, work: Callable[..., Result], *of: Any) -> Result:
    """Do a part of a stage's work and keep its result in the scratch folder, or find it there."""
    place = unfinished / ".once" / name
    if not place.exists():
        files.write_bytes(place, pickle.dumps(work(*of)))
    result: Result = pickle.loads(place.read_bytes())
    return result


def _inputs(stage: str) -> dict[str, str]:
    """Parameters and digests of files that dvc.yaml says the stage depends on, by name."""
    parameters = read_yaml(PARAMETERS_FILE)
    entry = read_yaml(PIPELINE_FILE)["stages"][stage]
    values = {
        f"{PARAMETERS_FILE}: {key}": json.dumps(lookup(parameters, key))
        for key in entry.get("params", [])
    }
    files = [
        file
        for dependency in entry["deps"]
        for file in _files(Path(_resolve(dependency, parameters)))
    ]
    # Contents, not times: a file can change without its time, and a checkout changes all times.
    with ThreadPoolExecutor() as threads:
        return values | dict(zip(map(str, files), threads.map(_sha256, files), strict=True))


def _files(path: Path) -> list[Path]:
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file for file in found if file.is_file() and "__pycache__" not in file.parts]


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _resolve(dependency: str, parameters: dict[str, Any]) -> str:
    """Fill in DVC's `${stage.key}` templates."""
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(lookup(parameters, found[1])), dependency)
