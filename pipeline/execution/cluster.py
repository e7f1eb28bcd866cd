"""Maps over items, in order, by the workers of a Dask cluster."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.execution.pool import in_order

Result = TypeVar("Result")

Item = TypeVar("Item")

# A task by Dask costs a few milliseconds, an image from ten milliseconds to two seconds.
IMAGES_A_TASK = 8
SECONDS_TO_CONNECT = 10
SECONDS_FOR_WORKERS = 60


def cluster_map(
    function: Callable[[Item], Result], items: Iterable[Item], address: str
) -> Iterator[Result]:
    """Do the same by the workers of a Dask cluster, in tasks of `IMAGES_A_TASK` items.

    At most two tasks a worker are under way.

    Raises
    ------
    InputError
        If the scheduler cannot be reached, has no usable workers, or loses them.
    """
    task = partial(_task, uuid4(), _CODE, Path.cwd(), function)
    items = iter(items)
    chunks = iter(lambda: list(islice(items, IMAGES_A_TASK)), [])
    with _cluster(address) as (pool, workers):
        for results in in_order(pool, task, chunks, 2 * workers):
            yield from results


@contextmanager
def _cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """The executor of a Dask cluster, and how many workers there are."""
    from distributed import Client  # a second to import, for those alone who use it
    from distributed.scheduler import KilledWorker

    where = f"WISE_DASK={address}"
    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: no Dask scheduler answers there ({error})") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS_FOR_WORKERS)
        except TimeoutError:
            raise InputError(
                f"{where}: the scheduler is there, but no worker after {SECONDS_FOR_WORKERS} s"
            ) from None
        threads = client.nthreads()
        if set(threads.values()) != {1}:
            raise InputError(f"{where}: start its workers with one thread each: --nthreads 1")
        pool = client.get_executor(pure=False)
        try:
            yield pool, len(threads)
        except KilledWorker:
            raise InputError(
                f"{where}: a task lost its worker again and again, most likely for want of "
                "memory; start fewer workers a machine, and run again"
            ) from None
        except CancelledError:
            raise InputError(
                f"{where}: the scheduler is gone; what was finished is kept: run again"
            ) from None
        finally:
            if client.status == "running":  # without a scheduler there is nothing to cancel
                pool.shutdown(wait=False)


def _task(
    run: UUID, code: str, folder: Path, function: Callable[[Item], Result], items: Sequence[Item]
) -> list[Result]:
    """Work on a task's items as a local worker would, in the folder of the run."""
    if code != _CODE:
        raise InputError(
            "the Dask workers run other code than this folder's; "
            f"start them anew, with the environment of {folder}"
        )
    try:
        os.chdir(folder)
    except OSError:
        raise InputError(f"{folder}: not there on a Dask worker; it must be shared") from None
    _begin(run)
    return [function(item) for item in items]


@lru_cache(maxsize=1)
def _begin(run: UUID) -> None:  # noqa: ARG001
    """Forget the networks and stores of an earlier run: its paths may have other contents now."""
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


# Of what this process imported: a Dask worker may outlive a change of the code.
_CODE = _source_digest()
