"""Unfinished work of stages, kept when a stage is killed and removed when it has finished.

It is in `.scratch/<stage>/<digest>/`, next to a lock file. When a stage finishes, it also removes
its work of other digests that has not been touched for two weeks. `.scratch/` can be removed by
hand while no stage is running.

Work that runs with other parameters can use is kept in the same place (`kept_scratch`).
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from pipeline.common import files, runtime
from pipeline.common.errors import InputError
from stages.common.parameters import PARAMETERS_FILE, PIPELINE_FILE, lookup
from stages.common.yaml_files import read_yaml

ABANDONED = 14 * 24 * 3600  # seconds after which the work of another digest is removed
_INPUTS = ".inputs.json"


class _Input(NamedTuple):
    """A parameter or a file that a stage depends on.

    value : JSON of the parameter, or SHA-256 of the file.
    stat : size in bytes, modification and change time in ns of the file; empty for a parameter.
    """

    value: str
    stat: tuple[int, ...] = ()


@contextmanager
def scratch(stage: str) -> Iterator[Path]:
    """Yield a folder for unfinished work, which is removed when the stage has finished.

    The folder is named after a digest of the stage's dependencies in dvc.yaml, so that only a run
    with the same parameters, inputs and code resumes the work. DVC runs queued experiments in
    temporary copies of the project; their folder is in the project itself.

    Raises
    ------
    InputError
        If another run of the stage with the same digest is under way.
    """
    inputs = _inputs(stage, {})
    folder = _folder(stage, {name: depended.value for name, depended in inputs.items()})
    if not runtime.is_main_process():
        yield folder
        return
    try:
        lock = _lock(folder)
    except Timeout:
        raise InputError(
            f"another run of this stage is using {folder}; wait until it has finished"
        ) from None
    with lock:
        folder.mkdir(exist_ok=True)
        files.write_json(folder / _INPUTS, inputs)
        yield folder
        _remove(folder)
    _remove_abandoned(folder.parent)


@contextmanager
def kept_scratch(stage: str, depends_on: str) -> Iterator[Path]:
    """Yield a folder for a part of a stage's work that other runs can use.

    It stays when the stage is done, until no run has used it for two weeks. Its name is a digest
    of the stage's code and of `depends_on`, the digest of all else that the part depends on. A
    run waits while another one is at work in it.
    """
    code = {
        name: depended.value
        for name, depended in _inputs(stage, {}).items()
        if not name.startswith((f"{PARAMETERS_FILE}: ", "data/"))
    }
    folder = _folder(stage, {**code, "depends on": depends_on})
    if not runtime.is_main_process():
        yield folder
        return
    with FileLock(folder.with_suffix(".lock")):
        folder.mkdir(exist_ok=True)
        folder.touch()  # used now
        yield folder


def check_inputs(folder: Path) -> None:
    """Check that the dependencies of the stage have not changed since `scratch`.

    DVC hashes dependencies after the command. It would record the results of the old version as
    those of the new one (treeverse/dvc#11058).

    Raises
    ------
    InputError
        If a file or a parameter has changed. The message names the first one.
    """
    stored = json.loads((folder / _INPUTS).read_text())
    before = {name: _Input(value, tuple(stat)) for name, (value, stat) in stored.items()}
    now = _inputs(folder.parent.name, before)
    for name in {**before, **now}:
        if name not in before or name not in now or before[name].value != now[name].value:
            raise InputError(
                f"{name}: changed while the stage was running; data/ is unchanged, run it again"
            )


def _folder(stage: str, values: dict[str, str]) -> Path:
    """Return the folder of a stage's work that depends on these values; it is made if missing."""
    digest = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    folder = Path(os.environ.get("DVC_ROOT", "."), ".scratch", stage, digest)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lock(folder: Path) -> FileLock:
    """Acquire the lock of a folder, or raise Timeout. It is released when the process ends."""
    # filelock does not accept a file that another run removes between opening and locking it.
    lock = FileLock(folder.with_suffix(".lock"))
    lock.acquire(timeout=0)
    return lock


def _remove(folder: Path) -> None:
    """Remove a folder and its lock file while holding the lock."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)


def _remove_abandoned(stage: Path) -> None:
    """Remove old work of a stage that no run is using."""
    for folder in {path.with_suffix("") for path in stage.iterdir()}:
        # Another run may remove it at the same time.
        with suppress(Timeout, FileNotFoundError):
            if time.time() - _last_touched(folder) > ABANDONED:
                with _lock(folder):
                    _remove(folder)


def _last_touched(folder: Path) -> float:
    parts = [folder.with_suffix(".lock"), folder, *folder.rglob("*")]
    return max((part.stat().st_mtime for part in parts if part.exists()), default=time.time())


def load_or_compute(folder: Path, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Load a result from the scratch folder, or compute it and keep it there as JSON.

    What is kept there but is no JSON is computed again.

    Returns
    -------
    The result as it is in JSON: arrays and tuples are lists, dataclasses are dictionaries.
    """
    path = folder / ".results" / f"{name}.json"
    with suppress(FileNotFoundError, ValueError):
        return json.loads(path.read_bytes())
    result = json.dumps(function(*arguments), default=_plain)
    files.write_bytes(path, result.encode())
    return json.loads(result)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else vars(value)


def _inputs(stage: str, known: Mapping[str, _Input]) -> dict[str, _Input]:
    """Return the dependencies of a stage in dvc.yaml by name.

    `known` are dependencies that were read before.
    """
    parameters = read_yaml(PARAMETERS_FILE)
    entry = read_yaml(PIPELINE_FILE)["stages"][stage]
    values = {
        f"{PARAMETERS_FILE}: {key}": _Input(json.dumps(lookup(parameters, key)))
        for key in entry.get("params", [])
    }
    files = [
        file
        for dependency in entry["deps"]
        for file in _files(Path(_resolve(dependency, parameters)))
    ]
    return values | _hash(files, known)


def _hash(files: Sequence[Path], known: Mapping[str, _Input]) -> dict[str, _Input]:
    """Hash files, except those whose size and times are as known.

    A file can change without its modification time, but not without its change time.
    """
    stats = {file: _stat(file) for file in files}
    inputs = {str(file): known.get(str(file), _Input("")) for file in files}
    changed = [file for file in files if inputs[str(file)].stat != stats[file]]
    with ThreadPoolExecutor() as threads:
        for file, digest in zip(changed, threads.map(_sha256, changed), strict=True):
            inputs[str(file)] = _Input(digest, stats[file])
    return inputs


def _stat(file: Path) -> tuple[int, ...]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _files(path: Path) -> list[Path]:
    """List the files of a dependency, which is a file or a folder."""
    walked = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    found = sorted(walked) if path.is_dir() else [path]
    return [file for file in found if file.is_file() and "__pycache__" not in file.parts]


def _resolve(dependency: str, parameters: dict[str, Any]) -> str:
    """Fill in DVC's `${stage.key}` templates."""
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(lookup(parameters, found[1])), dependency)
