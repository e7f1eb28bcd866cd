"""Ordered map over items in local processes, with a bounded number of pending items."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from pipeline.common import runtime
from pipeline.common.errors import InputError

Result = TypeVar("Result")

Item = TypeVar("Item")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order, computed in local processes.

    Every worker uses one thread, so that results do not depend on the number of workers. At
    most four items per worker are pending, which bounds the memory.

    Raises
    ------
    InputError
        If a worker was killed, for example because memory ran out.
    """
    with ProcessPoolExecutor(
        workers, runtime.process_context(), initializer=runtime.start_local_worker
    ) as pool:
        try:
            yield from in_order(pool, function, items, 4 * workers)
        except BrokenProcessPool:
            raise InputError(
                "a worker process was killed, most likely because memory ran out; "
                "try again with fewer workers: WISE_WORKERS=1"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def in_order(
    pool: Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    max_pending: int,
    result: Callable[[Future[Result]], Result] = Future.result,
) -> Iterator[Result]:
    """Yield the results of a pool in the order of the items, at most `max_pending` at a time.

    `result` waits for the result of a future.
    """
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= max_pending:
            yield result(pending.popleft())
    while pending:
        yield result(pending.popleft())
