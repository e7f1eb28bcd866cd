"""Apply a function to many photographs, in local processes or on a Dask cluster."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Protocol, TypeVar

from pipeline.artifacts.split import Photograph
from pipeline.common import runtime
from pipeline.common.progress import track
from pipeline.execution.cluster import cluster_map
from pipeline.execution.pool import ordered_map

# Photographs whose work a GPU does at once, which bounds its memory.
GPU_BATCH = 8

Item = TypeVar("Item")
Result = TypeVar("Result")
Added = TypeVar("Added", contravariant=True)


class Store(Protocol[Added]):
    """A writer of results per image, in order; `finished` is the number of images it holds."""

    finished: int

    def add(self, image_id: str, height: int, width: int, result: Added, /) -> None:
        """Add the result of an image; `height` and `width` are in pixels."""
        ...


def fill(
    store: Store[Result],
    function: Callable[[Item], Result],
    item: Callable[[Photograph], Item],
    photographs: Sequence[Photograph],
    what: str,
    on_device: bool = False,
) -> None:
    """Add `function(item(photograph))` for every photograph that is not in the store yet.

    See `map_photographs`.
    """
    remaining = photographs[store.finished :]
    for photograph, result in map_photographs(function, item, remaining, what, on_device):
        store.add(photograph.id, photograph.height, photograph.width, result)


def fill_together(
    store: Store[Result],
    function: Callable[[Sequence[Item]], Sequence[Result]],
    item: Callable[[Photograph], Item],
    photographs: Sequence[Photograph],
    what: str,
) -> None:
    """Add the results of a function of several photographs; see `map_together`."""
    remaining = photographs[store.finished :]
    for photograph, result in map_together(function, item, remaining, what):
        store.add(photograph.id, photograph.height, photograph.width, result)


def map_photographs(
    function: Callable[[Item], Result],
    item: Callable[[Photograph], Item],
    photographs: Sequence[Photograph],
    what: str,
    on_device: bool = False,
) -> Iterator[tuple[Photograph, Result]]:
    """Yield every photograph with `function(item(photograph))`, in order, and show the progress.

    `function` runs on a worker: a local process, or a worker of the Dask cluster at the address
    `WISE_DASK` if that is set.

    Parameters
    ----------
    function : is pickled with every task. It should refer to a network by the path of its
        weights, and load it on the worker.
    item : called in this process; makes the argument of `function`, which is sent to the worker.
    what : label of the progress bar.
    on_device : whether `function` computes on `runtime.device()`, see `runtime.workers`.
    """
    yield from _shown(photographs, _computed(function, map(item, photographs), on_device), what)


def map_together(
    function: Callable[[Sequence[Item]], Sequence[Result]],
    item: Callable[[Photograph], Item],
    photographs: Sequence[Photograph],
    what: str,
) -> Iterator[tuple[Photograph, Result]]:
    """Yield every photograph with its result, of a function that computes on the device.

    It is called with a list of items, and returns a result for each: on a GPU for `GPU_BATCH`
    photographs at a time, on a CPU for each by itself. See `map_photographs`.
    """
    items, size = map(item, photographs), GPU_BATCH if runtime.on_gpu(runtime.device()) else 1
    batches = iter(lambda: list(islice(items, size)), [])
    results = chain.from_iterable(_computed(function, batches, on_device=True))
    yield from _shown(photographs, results, what)


def _computed(
    function: Callable[[Item], Result], items: Iterable[Item], on_device: bool
) -> Iterator[Result]:
    address = os.environ.get("WISE_DASK")
    if address:
        return cluster_map(function, items, address)
    return ordered_map(function, items, runtime.workers(on_device))


def _shown(
    photographs: Sequence[Photograph], results: Iterable[Result], what: str
) -> Iterator[tuple[Photograph, Result]]:
    return track(zip(photographs, results, strict=True), len(photographs), what)
