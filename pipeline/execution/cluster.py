"""Ordered map over items on the workers of a Dask cluster."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, wait
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.execution.pool import in_order

if TYPE_CHECKING:
    from distributed import Client

Result = TypeVar("Result")

Item = TypeVar("Item")

# Dask's overhead per task is a few milliseconds; an image takes from 10 ms to 2 s.
IMAGES_PER_TASK = 8
SECONDS_TO_CONNECT = 10
SECONDS_FOR_WORKERS = 60
SECONDS_BETWEEN_CHECKS = 1


def cluster_map(
    function: Callable[[Item], Result], items: Iterable[Item], address: str
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order, computed on a Dask cluster.

    A task has `IMAGES_PER_TASK` items. At most two tasks per worker are submitted at a time.

    Parameters
    ----------
    address : of the Dask scheduler.

    Raises
    ------
    InputError
        If the scheduler cannot be reached, has no suitable workers, or loses them.
    """
    task = partial(_task, uuid4(), _CODE, Path.cwd(), function)
    items = iter(items)
    chunks = iter(lambda: list(islice(items, IMAGES_PER_TASK)), [])
    with _cluster(address) as (pool, result, workers):
        for results in in_order(pool, task, chunks, 2 * workers, result):
            yield from results


@contextmanager
def _cluster(address: str) -> Iterator[tuple[Executor, Callable[[Future[Any]], Any], int]]:
    """Connect to a Dask cluster; gives its executor, how to wait for a result, and its workers."""
    from distributed import Client  # takes a second to import, and most runs do not use it
    from distributed.scheduler import KilledWorker

    where = f"WISE_DASK={address}"
    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: no Dask scheduler responds at this address ({error})") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS_FOR_WORKERS)
        except TimeoutError:
            raise InputError(
                f"{where}: the scheduler has no worker after {SECONDS_FOR_WORKERS} s"
            ) from None
        threads = client.nthreads()
        if set(threads.values()) != {1}:
            raise InputError(f"{where}: start its workers with one thread each: --nthreads 1")
        pool = client.get_executor(pure=False)
        try:
            yield pool, partial(_result, client), len(threads)
        except KilledWorker:
            raise InputError(
                f"{where}: a task lost its worker repeatedly, most likely because memory ran out; "
                "start fewer workers per machine and run again"
            ) from None
        except (CancelledError, ValueError) as error:
            # While the connection breaks, distributed may fail on the state of a cancelled task.
            if isinstance(error, ValueError) and client.status == "running":
                raise
            raise InputError(
                f"{where}: the connection to the scheduler was lost; finished images are kept: "
                "run again"
            ) from None
        finally:
            if client.status == "running":  # otherwise there is no scheduler to cancel tasks on
                pool.shutdown(wait=False)


def _result(client: "Client", future: Future[Result]) -> Result:
    """Wait for a result as long as there is a scheduler: without one, a task may never end."""
    while not wait([future], SECONDS_BETWEEN_CHECKS).done:
        if client.status != "running":
            raise CancelledError
    return future.result()


def _task(
    run: UUID, code: str, folder: Path, function: Callable[[Item], Result], items: Sequence[Item]
) -> list[Result]:
    """Compute the results of a task as a local worker would, in the folder of the run."""
    if code != _CODE:
        raise InputError(
            "the Dask workers run a different version of the code; "
            f"restart them with the environment of {folder}"
        )
    try:
        os.chdir(folder)
    except OSError:
        raise InputError(
            f"{folder}: does not exist on a Dask worker; all machines must share this folder"
        ) from None
    _begin(run)
    return [function(item) for item in items]


@lru_cache(maxsize=1)
def _begin(run: UUID) -> None:  # noqa: ARG001
    """Clear all caches at the start of a run: cached networks and stores may be out of date."""
    runtime.start_worker()
    for name, module in list(sys.modules.items()):
        if name.startswith("pipeline."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _source_digest() -> str:
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


# Computed on import: the code may change while a Dask worker keeps running.
_CODE = _source_digest()
