"""Maps over items, in order, by local processes, with a bounded number under way."""

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
    """Yield `function(item)` for every item, in the order of the items, by local processes.

    Every worker computes with one thread, so that a result does not depend on their number;
    at most four items a worker are under way, so that neither does the memory.

    Raises
    ------
    InputError
        If a worker was killed from outside, as a system short of memory does.
    """
    with ProcessPoolExecutor(
        workers, runtime.process_context(), initializer=runtime.start_local_worker
    ) as pool:
        try:
            yield from in_order(pool, function, items, 4 * workers)
        except BrokenProcessPool:
            raise InputError(
                "a worker process was killed, most likely for want of memory; "
                "try again with fewer: WISE_WORKERS=1"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def in_order(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], most: int
) -> Iterator[Result]:
    """Yield the results of a pool in the order of the items, with at most `most` under way."""
    under_way: deque[Future[Result]] = deque()
    for item in items:
        under_way.append(pool.submit(function, item))
        if len(under_way) >= most:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
