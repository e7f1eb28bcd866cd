"""One training loop for every network here: epochs of visits, one loss, one schedule.

A run is a function of its seed: what an item looks like depends on (seed, epoch, item) alone,
not on the number of worker processes, and what is drawn in a step on (seed, step), so that a run
that was killed goes on from the step it kept, to the same weights.

Under torchrun each process works its share of every batch, and gradients are those of the mean
over all of it. That is exact, up to rounding, for every term that gives its own count (`Mean`) and
for batch norm; dropout alone draws otherwise, and images of several sizes are padded to the
largest of the share.
"""

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import dvclive
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from scmrepo.exceptions import SCMError
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline import runtime
from pipeline.artifacts.files import write_json
from pipeline.artifacts.weights import write_weights
from pipeline.distributed import Processes, join, share_batch_statistics
from pipeline.errors import InputError
from pipeline.parameters import Parameters
from pipeline.progress import track


class Schedule(Parameters):
    """How a network is optimised.

    `rate` is that of new layers; pretrained ones learn at `rate * backbone_factor`. After
    `warmup` steps of linear growth the rate is `constant`, falls along a half `cosine` to
    nothing, or is divided by ten at each of the epochs in `milestones`.
    """

    epochs: PositiveInt = Field(description="visits to every item")
    batch: PositiveInt = Field(description="items a step")
    optimiser: Literal["sgd", "adamw"] = Field(description="sgd: with momentum 0.9")
    rate: PositiveFloat = Field(description="learning rate of new layers")
    backbone_factor: NonNegativeFloat = Field(
        description="that of pretrained layers, in parts of rate; 0: they stay as they are"
    )
    weight_decay: NonNegativeFloat = Field(description="of all weights, as the optimiser takes it")
    warmup: NonNegativeInt = Field(0, description="steps in which the rate grows to its value")
    decay: Literal["constant", "cosine"] = Field(
        "constant", description="of the rate after warmup; cosine: along a half wave, to 0"
    )
    milestones: tuple[PositiveInt, ...] = Field(
        (), description="epochs at each of which a constant rate is divided by 10"
    )
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


@dataclass(frozen=True)
class Mean:
    """A term of the loss: the mean of what `total`, a scalar, sums over `count` things.

    Both are of one process's share of a batch; several processes sum each before they divide.
    """

    total: Tensor
    count: Tensor | int


Loss = Callable[[Any], Mapping[str, Mean]]
"""From a batch to named terms, the sum of whose means is minimised."""


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

    Started by torchrun, the first process alone writes at `places`.

    Raises
    ------
    InputError
        If a loss is no longer finite, a checkpoint cannot be written, an item cannot be read, or
        a process that reads them was killed.
    """
    processes = join()
    share_batch_statistics(network, processes)
    steps = math.ceil(len(samples) / schedule.batch)
    optimiser = _optimiser(network, schedule)
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, _rate_factor(schedule, steps))
    run = _Run(network, optimiser, rates, processes, steps)
    run.resume(places.checkpoint)
    batches = _batches(_loader(samples, schedule, seed, run.step, processes))
    step = partial(_step, run, loss, schedule.clip, seed)
    with _curves(places.curves) as log:
        for means in run.history:
            log(means)
        for epoch in range(len(run.history), schedule.epochs):
            network.train()
            left = steps * (epoch + 1) - run.step
            title = f"{what}, epoch {epoch + 1}/{schedule.epochs}"
            for batch in _shown(islice(batches, left), left, title):
                run.note(step(batch), what)
                run.save_now_and_then(places.checkpoint)
            log(run.history[-1])
    run.save(places.checkpoint)
    network.eval()
    return run.history[-1]


@dataclass
class _Run:
    """All that a resumed run needs: after `step` steps, with the means of finished epochs."""

    network: torch.nn.Module
    optimiser: torch.optim.Optimizer
    rates: torch.optim.lr_scheduler.LRScheduler
    processes: Processes
    steps_an_epoch: int
    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    saved: float = field(default_factory=time.monotonic)

    def note(self, terms: Mapping[str, Tensor], what: str) -> None:
        """Note a step's terms, and the means of the epoch that it ends.

        Raises
        ------
        InputError
            If the loss is no longer finite.
        """
        self.step += 1
        self.sums = {name: self.sums.get(name, 0) + term for name, term in terms.items()}
        ended = self.step % self.steps_an_epoch == 0
        # Asking a GPU for the value waits for it, so not at every step.
        seen = ended or self.step % 50 == 0 or self.sums["loss"].device.type == "cpu"
        if seen and not self._is_finite():
            reason = f"the loss of {what} is no longer finite at step {self.step}"
            self.processes.end(f"{reason}; lower the learning rate", self.sums["loss"])
        if ended:
            means = {name: float(value) / self.steps_an_epoch for name, value in self.sums.items()}
            self.history.append(means)
            self.sums = {}

    def save_now_and_then(self, path: Path) -> None:
        """Save, unless it was done a moment ago or there is nothing to go on from."""
        due = time.monotonic() - self.saved >= runtime.seconds_between_checkpoints()
        if due and self._is_finite():
            self.save(path)
            self.saved = time.monotonic()

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        if not runtime.is_main_process():
            return
        content = io.BytesIO()
        torch.save(self._state(), content)
        unfinished = path.with_suffix(".unfinished")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content.getbuffer())
            unfinished.replace(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise InputError(
                f"{path}: this checkpoint was not saved ({error.strerror}); make room there and "
                "run again: the training goes on from the checkpoint before it"
            ) from None

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one."""
        if not path.exists():
            return
        device = next(self.network.parameters()).device
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rates.load_state_dict(state["rates"])
        self.step, self.history = state["step"], state["history"]
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}

    def _is_finite(self) -> bool:
        return not self.sums or bool(torch.isfinite(self.sums["loss"]))

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rates": self.rates.state_dict(),
            "step": self.step,
            "sums": self.sums,
            "history": self.history,
        }


def _step(run: _Run, loss: Loss, clip: float, seed: int, batch: Any) -> dict[str, Tensor]:
    """Learn from this process's share of a batch, and give the terms of the whole batch."""
    processes = run.processes
    device = next(run.network.parameters()).device
    # Nothing that is drawn in a step depends on the steps before: no random state is kept.
    state = np.random.SeedSequence([seed, run.step, processes.rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        terms = loss(to_device(batch, device))
    totals = torch.stack([term.total.float() for term in terms.values()])
    counts = torch.stack([_on(device, term.count) for term in terms.values()])
    whole, counts = processes.total(torch.stack([totals.detach(), counts]))
    counts = counts.clamp(min=1)
    run.optimiser.zero_grad(set_to_none=True)
    (totals / counts).sum().backward()
    processes.sum_gradients(run.network.parameters())
    if clip:
        torch.nn.utils.clip_grad_norm_(run.network.parameters(), clip)
    run.optimiser.step()
    run.rates.step()
    means = whole / counts
    return {**dict(zip(terms, means, strict=True)), "loss": means.sum()}


def _on(device: torch.device, count: Tensor | int) -> Tensor:
    """Give a count as a number on the device, where it is made: a copy would wait for a GPU."""
    if isinstance(count, Tensor):
        return count.to(device, torch.float32)
    return torch.full((), count, dtype=torch.float32, device=device)


def write_results(
    folder: Path, network: torch.nn.Module, description: BaseModel, metrics: Mapping[str, Any]
) -> None:
    """Write weights.safetensors and metrics.json beside the curves of a finished training."""
    write_weights(folder / "weights.safetensors", network, description)
    write_json(folder / "metrics.json", metrics, indent=1)


RESULTS = ("weights.safetensors", "metrics.json", "curves")
"""What a training leaves, by name."""


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
    common: dict[str, Any] = {
        "lr": schedule.rate,
        "weight_decay": schedule.weight_decay,
        "fused": runtime.device().type == "cuda",  # all weights in a few kernels
    }
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


class _Shares:
    """A process's visits from step `first` on, in batches: a permutation of the items an epoch."""

    def __init__(
        self, items: int, schedule: Schedule, seed: int, first: int, processes: Processes
    ) -> None:
        self._items, self._schedule, self._seed = items, schedule, seed
        self._first, self._processes = first, processes
        self._steps_an_epoch = math.ceil(items / schedule.batch)

    def __len__(self) -> int:
        return self._schedule.epochs * self._steps_an_epoch - self._first

    def __iter__(self) -> Iterator[list[Visit]]:
        epoch, done = divmod(self._first, self._steps_an_epoch)
        return map(self._processes.share, islice(self._batches(epoch), done, None))

    def _batches(self, first_epoch: int) -> Iterator[list[Visit]]:
        for epoch in range(first_epoch, self._schedule.epochs):
            rng = np.random.default_rng([self._seed, epoch])
            order: NDArray[np.int64] = rng.permutation(self._items)
            for start in range(0, self._items, self._schedule.batch):
                items = order[start : start + self._schedule.batch]
                yield [Visit(epoch, int(item)) for item in items]


def _loader(
    samples: Samples, schedule: Schedule, seed: int, first: int, processes: Processes
) -> DataLoader[Any]:
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


def _batches(loader: DataLoader[Any]) -> Iterator[Any]:
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


def _shown(batches: Iterator[Any], count: int, title: str) -> Iterator[Any]:
    return track(batches, count, title) if runtime.is_main_process() else batches


@contextmanager
def _curves(folder: Path) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Yield what draws an epoch's means into the curves."""
    if not runtime.is_main_process():
        yield lambda _: None
        return
    try:
        live = dvclive.Live(str(folder), dvcyaml=False, save_dvc_exp=False, report=None)
    except SCMError as error:
        raise InputError(
            f"DVCLive cannot keep the curves ({error}): a git repository needs a first commit; "
            "make one with git add --all && git commit, then run again"
        ) from None
    with live:
        yield partial(_log, live)


def _log(live: dvclive.Live, means: Mapping[str, float]) -> None:
    for name, value in means.items():
        live.log_metric(name, value, timestamp=False)
    live.next_step()  # type: ignore[no-untyped-call]
