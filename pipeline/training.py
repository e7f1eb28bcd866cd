"""One training loop for every network here: epochs of visits, one loss, one schedule.

A run is a function of its seed: what an item looks like depends on (seed, epoch, item) alone,
not on the number of worker processes, and a run that was killed goes on from its last epoch
with the same random states, to the same weights.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import dvclive
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline import runtime
from pipeline.errors import InputError
from pipeline.parameters import Parameters
from pipeline.progress import track


class Schedule(Parameters):
    """How a network is optimised.

    `rate` is that of new layers; pretrained ones learn at `rate * backbone_factor`. After
    `warmup` steps of linear growth the rate is `constant`, falls along a half `cosine` to
    nothing, or is divided by ten at each of the epochs in `milestones`.
    """

    epochs: PositiveInt
    batch: PositiveInt
    optimiser: Literal["sgd", "adamw"]
    rate: PositiveFloat
    backbone_factor: NonNegativeFloat
    weight_decay: NonNegativeFloat
    warmup: NonNegativeInt = 0
    decay: Literal["constant", "cosine"] = "constant"
    milestones: tuple[PositiveInt, ...] = ()
    clip: NonNegativeFloat = Field(0.0, description="largest norm of the gradient; 0: no limit")


class Visit(NamedTuple):
    """The `epoch`-th time that training looks at item number `item`."""

    epoch: int
    item: int

    def generator(self, seed: int) -> np.random.Generator:
        """Random numbers of this visit alone."""
        return np.random.default_rng([seed, self.epoch, self.item])


class Samples(Protocol):
    """What is trained on. `collate` makes a batch of several samples."""

    def __len__(self) -> int: ...
    def __getitem__(self, visit: Visit) -> Any: ...
    def collate(self, samples: Sequence[Any]) -> Any:
        """Make a batch of samples."""
        ...


Loss = Callable[[Any], Mapping[str, Tensor]]
"""From a batch to named terms, whose sum is minimised."""


@dataclass(frozen=True)
class Places:
    """Where a run leaves its checkpoint (until it is done) and its curves."""

    checkpoint: Path
    curves: Path


def fit(
    network: torch.nn.Module,
    loss: Loss,
    samples: Samples,
    schedule: Schedule,
    seed: int,
    places: Places,
    what: str,
) -> dict[str, float]:
    """Train `network` in place, on the device it is on, and return the last epoch's means.

    Raises
    ------
    InputError
        If a loss is no longer finite.
    """
    steps = math.ceil(len(samples) / schedule.batch)
    optimiser = _optimiser(network, schedule)
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, _rate_factor(schedule, steps))
    run = _Run(network, optimiser, rates, [])
    run.resume(places.checkpoint)
    first = len(run.history)
    batches = iter(_loader(samples, schedule, seed, first))
    with dvclive.Live(str(places.curves), dvcyaml=False, save_dvc_exp=False, report=None) as live:
        for means in run.history:
            _log(live, means)
        for epoch in range(first, schedule.epochs):
            network.train()
            of_epoch = track(
                islice(batches, steps), steps, f"{what}, epoch {epoch + 1}/{schedule.epochs}"
            )
            run.history.append(_train_epoch(of_epoch, loss, run, schedule.clip, what))
            _log(live, run.history[-1])
            run.save(places.checkpoint)
    network.eval()
    return run.history[-1]


@dataclass
class _Run:
    """All that a resumed run needs."""

    network: torch.nn.Module
    optimiser: torch.optim.Optimizer
    rates: torch.optim.lr_scheduler.LRScheduler
    history: list[dict[str, float]]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rates": self.rates.state_dict(),
            "history": self.history,
            "random": torch.get_rng_state(),
        }
        torch.save(state, unfinished)
        unfinished.replace(path)

    def resume(self, path: Path) -> None:
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rates.load_state_dict(state["rates"])
        self.history = state["history"]
        torch.set_rng_state(state["random"])


def _train_epoch(
    batches: Iterator[Any], loss: Loss, run: _Run, clip: float, what: str
) -> dict[str, float]:
    device = next(run.network.parameters()).device
    sums: dict[str, Tensor] = {}
    steps = 0
    for steps, batch in enumerate(batches, 1):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            terms = dict(loss(to_device(batch, device)))
        terms["loss"] = torch.stack(list(terms.values())).sum()
        run.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        if clip:
            torch.nn.utils.clip_grad_norm_(run.network.parameters(), clip)
        run.optimiser.step()
        run.rates.step()
        for name, term in terms.items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + term.detach()
        # Asking a GPU for the value waits for it, so not at every step.
        if (device.type == "cpu" or steps % 50 == 0) and not torch.isfinite(sums["loss"]):
            break
    means = {name: float(value) / steps for name, value in sums.items()}
    if not math.isfinite(means["loss"]):
        raise InputError(f"{what}: the loss is no longer finite; lower the learning rate")
    return means


def to_device(batch: Any, device: torch.device) -> Any:
    """Move the tensors of a batch, images (4 dimensions) in channels-last order."""
    if isinstance(batch, Tensor):
        layout = torch.channels_last if batch.dim() == 4 else torch.preserve_format
        return batch.to(device, non_blocking=True, memory_format=layout)
    if isinstance(batch, Mapping):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return [to_device(value, device) for value in batch]
    return batch


def _optimiser(network: torch.nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """Two groups: what is under `backbone` in the network, and everything else."""
    learning = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {
            "params": [p for n, p in learning if n.startswith("backbone.")],
            "lr": schedule.rate * schedule.backbone_factor,
        },
        {"params": [p for n, p in learning if not n.startswith("backbone.")]},
    ]
    common: dict[str, Any] = {"lr": schedule.rate, "weight_decay": schedule.weight_decay}
    if schedule.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, **common)
    return torch.optim.AdamW(groups, **common)


def _rate_factor(schedule: Schedule, steps: int) -> Callable[[int], float]:
    total = steps * schedule.epochs

    def factor(step: int) -> float:
        if step < schedule.warmup:
            return (step + 1) / (schedule.warmup + 1)
        if schedule.decay == "cosine":
            done = (step - schedule.warmup) / max(1, total - schedule.warmup)
            return (1 + math.cos(math.pi * min(done, 1.0))) / 2
        passed = sum(step >= epoch * steps for epoch in schedule.milestones)
        return float(0.1**passed)

    return factor


class _Batches:
    """The visits of all epochs from `first` on, in batches: a permutation of the items each."""

    def __init__(self, items: int, schedule: Schedule, seed: int, first: int) -> None:
        self._items, self._batch, self._seed = items, schedule.batch, seed
        self._epochs = range(first, schedule.epochs)

    def __len__(self) -> int:
        return len(self._epochs) * math.ceil(self._items / self._batch)

    def __iter__(self) -> Iterator[list[Visit]]:
        for epoch in self._epochs:
            order: NDArray[np.int64] = np.random.default_rng([self._seed, epoch]).permutation(
                self._items
            )
            for start in range(0, self._items, self._batch):
                yield [Visit(epoch, int(item)) for item in order[start : start + self._batch]]


def _loader(samples: Samples, schedule: Schedule, seed: int, first: int) -> DataLoader[Any]:
    batches: Any = _Batches(len(samples), schedule, seed, first)
    dataset: Any = samples
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=samples.collate,
        num_workers=runtime.workers(),
        worker_init_fn=_start_loader,
        pin_memory=torch.cuda.is_available(),
        # Its own, so that starting a loader, as a resumed run does, draws no global number.
        generator=torch.Generator(),
        multiprocessing_context=runtime.process_context(),
    )


def _start_loader(_: int) -> None:
    runtime.start_worker()


def _log(live: dvclive.Live, means: Mapping[str, float]) -> None:
    for name, value in means.items():
        live.log_metric(name, value, timestamp=False)
    live.next_step()  # type: ignore[no-untyped-call]
