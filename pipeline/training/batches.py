"""Loading of batches, in an order that depends only on the seed."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.training.distributed import Processes
from pipeline.training.schedule import Schedule


class EpochSample(NamedTuple):
    """The index of a sample: the epoch, and the index of the item in the dataset.

    batch : items of its batch, those of other processes included; none if it is in no batch.
    """

    epoch: int
    item: int
    batch: tuple[int, ...] = ()

    def generator(self, seed: int) -> np.random.Generator:
        """Return a random generator for the augmentation of this item in this epoch."""
        return np.random.default_rng([seed, self.epoch, self.item])


# Items are sorted by aspect ratio among so many batches at a time.
BATCHES_SORTED = 16


class Samples(Protocol):
    """A dataset for training, whose items are augmented differently in every epoch."""

    def __len__(self) -> int: ...
    def __getitem__(self, sample: EpochSample) -> Any: ...
    def collate(self, samples: Sequence[Any]) -> Any:
        """Collate samples to a batch."""
        ...


class _BatchSampler:
    """The batches of one process from step `first` on; the items are shuffled every epoch.

    Parameters
    ----------
    aspect_ratios : float (items,), or None. With it, the items of a batch have similar ratios:
        they are sorted by it among `BATCHES_SORTED` batches, whose order is then shuffled.
    """

    def __init__(
        self,
        items: int,
        schedule: Schedule,
        seed: int,
        first: int,
        processes: Processes,
        aspect_ratios: NDArray[np.float64] | None = None,
    ) -> None:
        self._items, self._schedule, self._seed = items, schedule, seed
        self._first, self._processes, self._aspect_ratios = first, processes, aspect_ratios
        self._steps_an_epoch = math.ceil(items / schedule.batch_size)

    def __len__(self) -> int:
        return self._schedule.epochs * self._steps_an_epoch - self._first

    def __iter__(self) -> Iterator[list[EpochSample]]:
        epoch, done = divmod(self._first, self._steps_an_epoch)
        return map(self._processes.share, islice(self._batches(epoch), done, None))

    def _batches(self, first_epoch: int) -> Iterator[list[EpochSample]]:
        for epoch in range(first_epoch, self._schedule.epochs):
            rng = np.random.default_rng([self._seed, epoch])
            order: NDArray[np.int64] = rng.permutation(self._items)
            batches = _cut(order, self._schedule.batch_size)
            if self._aspect_ratios is not None:
                batches = _sorted_by(self._aspect_ratios, batches, rng)
            for items in batches:
                batch = tuple(items.tolist())
                yield [EpochSample(epoch, item, batch) for item in batch]


def _cut(items: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _sorted_by(
    values: NDArray[np.float64], batches: list[NDArray[np.int64]], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Exchange items among neighboring batches, so that those of a batch have similar values."""
    exchanged: list[NDArray[np.int64]] = []
    for start in range(0, len(batches), BATCHES_SORTED):
        items = np.concatenate(batches[start : start + BATCHES_SORTED])
        items = items[np.argsort(values[items], kind="stable")]
        sorted_batches = _cut(items, len(batches[0]))
        exchanged += [sorted_batches[batch] for batch in rng.permutation(len(sorted_batches))]
    return exchanged


def make_loader(
    samples: Samples,
    schedule: Schedule,
    seed: int,
    first: int,
    processes: Processes,
    aspect_ratios: NDArray[np.float64] | None,
) -> DataLoader[Any]:
    """Make the data loader of a process, which begins with step number `first`."""
    batch_sampler: Any = _BatchSampler(
        len(samples), schedule, seed, first, processes, aspect_ratios
    )
    dataset: Any = samples
    return DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        collate_fn=samples.collate,
        num_workers=runtime.workers(),
        worker_init_fn=_start_loader,
        pin_memory=runtime.on_gpu(runtime.device()),
        # Its own generator: creating a loader must not advance the global one on resuming.
        generator=torch.Generator(),
        multiprocessing_context=runtime.process_context(),
    )


def load_batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield the batches of a loader.

    Raises
    ------
    InputError
        If an item cannot be read, or a loader process was killed.
    """
    try:
        yield from loader
    except InputError as error:  # the loader prepends a traceback to the message
        raise InputError(error.args[0].rpartition("InputError: ")[2].strip()) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise InputError(
            "a process that prepares batches was killed, most likely because memory ran out; run "
            "again with fewer processes: WISE_WORKERS=1; training resumes from its checkpoint"
        ) from None


def _start_loader(_: int) -> None:
    runtime.start_local_worker()
