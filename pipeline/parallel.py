"""Maps over images by local processes, in order, with a bounded number under way."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from pipeline import runtime
from pipeline.artifacts.split import Photograph
from pipeline.errors import InputError
from pipeline.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in the order of the items.

    Every worker computes with one thread, so that a result does not depend on their number;
    at most four items a worker are under way, so that neither does the memory.

    Raises
    ------
    InputError
        If a worker was killed from outside, as a system short of memory does.
    """
    under_way: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(
        workers, runtime.process_context(), initializer=runtime.start_worker
    ) as pool:
        try:
            for item in items:
                under_way.append(pool.submit(function, item))
                if len(under_way) >= 4 * workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                "a worker process was killed, most likely for want of memory; "
                "try again with fewer: WISE_WORKERS=1"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def map_photographs(
    function: Callable[[Item], Result],
    item: Callable[[Photograph], Item],
    photographs: Sequence[Photograph],
    what: str,
) -> Iterator[tuple[Photograph, Result]]:
    """Yield every photograph with `function(item(photograph))`, and show the progress.

    `item` makes what is sent to a worker process, where `function` runs.
    """
    results = ordered_map(function, map(item, photographs), runtime.workers())
    yield from track(zip(photographs, results, strict=True), len(photographs), what)
