"""Batches of samples in an order that depends on the seed alone."""

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
    """The `epoch`-th time that training looks at item number `item`."""

    epoch: int
    item: int

    def generator(self, seed: int) -> np.random.Generator:
        """Random numbers of this visit alone."""
        return np.random.default_rng([seed, self.epoch, self.item])


class Samples(Protocol):
    """What is trained on. `collate` makes a batch of several samples."""

    def __len__(self) -> int: ...
    def __getitem__(self, visit: EpochSample) -> Any: ...
    def collate(self, samples: Sequence[Any]) -> Any:
        """Make a batch of samples."""
        ...


class _Shares:
    """A process's visits from step `first` on, in batches: a permutation of the items an epoch."""

    def __init__(
        self, items: int, schedule: Schedule, seed: int, first: int, processes: Processes
    ) -> None:
        self._items, self._schedule, self._seed = items, schedule, seed
        self._first, self._processes = first, processes
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
            for start in range(0, self._items, self._schedule.batch_size):
                items = order[start : start + self._schedule.batch_size]
                yield [EpochSample(epoch, int(item)) for item in items]


def make_loader(
    samples: Samples, schedule: Schedule, seed: int, first: int, processes: Processes
) -> DataLoader[Any]:
    """Make the loader of a process's batches, from step number `first` on."""
    shares: Any = _Shares(len(samples), schedule, seed, first, processes)
    dataset: Any = samples
    return DataLoader(
        dataset,
        batch_sampler=shares,
        collate_fn=samples.collate,
        num_workers=runtime.workers(),
        worker_init_fn=_start_loader,
        pin_memory=runtime.device().type == "cuda",
        # Its own, so that starting a loader, as a resumed run does, draws no global number.
        generator=torch.Generator(),
        multiprocessing_context=runtime.process_context(),
    )


def load_batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield a loader's batches; what goes wrong in its processes is said in one line."""
    try:
        yield from loader
    except InputError as error:  # with a traceback before it, which the loader adds
        raise InputError(str(error).rpartition("InputError: ")[2].strip()) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise InputError(
            "a process that prepares batches was killed, most likely for want of memory; run "
            "again, with fewer: WISE_WORKERS=1; the training goes on from its last checkpoint"
        ) from None


def _start_loader(_: int) -> None:
    runtime.start_local_worker()
