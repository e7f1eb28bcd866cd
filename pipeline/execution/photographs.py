"""One function over many photographs, by local processes or by a Dask cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from pipeline.artifacts.split import Photograph
from pipeline.common import runtime
from pipeline.common.progress import track
from pipeline.execution.cluster import cluster_map
from pipeline.execution.pool import ordered_map

Item = TypeVar("Item")
Result = TypeVar("Result")
Added = TypeVar("Added", contravariant=True)


class Store(Protocol[Added]):
    """What takes the results of images, in order, and says how many it holds."""

    finished: int

    def add(self, image_id: str, height: int, width: int, result: Added, /) -> None:
        """Add the result of an image of that size, in pixels."""
        ...


def fill(
    store: Store[Result],
    function: Callable[[Item], Result],
    item: Callable[[Photograph], Item],
    photographs: Sequence[Photograph],
    what: str,
) -> None:
    """Add `function(item(photograph))` for every photograph that the store does not hold yet."""
    remaining = photographs[store.finished :]
    for photograph, result in map_photographs(function, item, remaining, what):
        store.add(photograph.id, photograph.height, photograph.width, result)


def map_photographs(
    function: Callable[[Item], Result],
    item: Callable[[Photograph], Item],
    photographs: Sequence[Photograph],
    what: str,
) -> Iterator[tuple[Photograph, Result]]:
    """Yield every photograph with `function(item(photograph))`, and show the progress.

    `item` makes what is sent to a worker, where `function` runs: one of the Dask cluster at
    `WISE_DASK`, or a local process where that is not set. `function` is sent with every task, so
    it names the network that it needs and loads it there.
    """
    items = map(item, photographs)
    address = os.environ.get("WISE_DASK")
    results = (
        cluster_map(function, items, address)
        if address
        else ordered_map(function, items, runtime.workers())
    )
    yield from track(zip(photographs, results, strict=True), len(photographs), what)
