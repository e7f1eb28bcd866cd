"""The training loop of all networks.

A training is reproducible from its seed. The augmentation of an item depends only on the seed,
the epoch and the item, and random numbers of a step only on the seed and the step. The result
therefore does not depend on the number of worker processes, and an interrupted training that
resumes from a checkpoint arrives at the same weights.

Under torchrun, every process computes its share of each batch, and gradients are those of the
mean over the whole batch. Up to rounding, this is exact for all terms of the loss (`Mean`), for
batch norm, and for images of different sizes, which are padded to the largest of the whole batch.
Dropout uses other random numbers.
"""

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.common import runtime
from pipeline.common.errors import InputError, first_line
from pipeline.common.progress import track
from pipeline.training.batches import Samples, load_batches, make_loader
from pipeline.training.distributed import Processes, join, share_batch_statistics
from pipeline.training.schedule import Schedule, make_optimizer, rate_factor


@dataclass(frozen=True)
class Mean:
    """A term of the loss, as a sum and a count, from which the mean is computed.

    total : scalar, sum over one process's share of a batch.
    count : number of summands. Both are summed over the processes before the division.
    """

    total: Tensor
    count: Tensor | int


Network = TypeVar("Network", bound=torch.nn.Module)

Loss = Callable[[Any], Mapping[str, Mean]]
"""Computes the named terms of the loss from a batch. The sum of their means is minimized."""


LogEpoch = Callable[[Mapping[str, float]], None]
"""Receives the mean of every term of the loss, and of their sum `loss`, after each epoch."""


@dataclass(frozen=True)
class Training(Generic[Network]):
    """All that defines a training.

    name : label for progress bars and error messages.
    network : on the device on which it is trained.
    loss : of a batch.
    samples : the dataset.
    schedule : number of epochs, optimizer and learning rate.
    seed : for the order of the samples and the random numbers of every step.
    aspect_ratios : float (samples,), width / height of images that are padded to batches. Images
        of similar ratio then share a batch, for less padding.
    """

    name: str
    network: Network
    loss: Loss
    samples: Samples
    schedule: Schedule
    seed: int
    aspect_ratios: NDArray[np.float64] | None = None


def fit(
    training: Training[Any], checkpoint: Path, curves: AbstractContextManager[LogEpoch]
) -> dict[str, float]:
    """Train a network in place.

    Parameters
    ----------
    checkpoint : file from which an interrupted training resumes. Under torchrun, the first
        process writes it.
    curves : context that gives the function to log the means of every epoch.

    Returns
    -------
    The mean of every term of the loss in the last epoch, and of their sum `loss`.

    Raises
    ------
    InputError
        If the loss is no longer finite, a checkpoint cannot be written, an item cannot be read,
        or a loader process was killed.
    """
    network, schedule, seed = training.network, training.schedule, training.seed
    frozen = schedule.backbone_lr_factor == 0 and hasattr(network, "backbone")
    if frozen:
        network.backbone.requires_grad_(False)
    processes = join()
    share_batch_statistics(network, processes)
    steps = math.ceil(len(training.samples) / schedule.batch_size)
    optimizer = make_optimizer(network, schedule)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor(schedule, steps))
    run = _Run(network, optimizer, rates, processes, steps, schedule.ema_decay)
    run.resume(checkpoint)
    loader = make_loader(
        training.samples, schedule, seed, run.step, processes, training.aspect_ratios
    )
    batches = load_batches(loader)
    step = partial(_step, run, training.loss, schedule.max_grad_norm, seed)
    with curves as log:
        for means in run.history:
            log(means)
        for epoch in range(len(run.history), schedule.epochs):
            network.train()
            if frozen:
                network.backbone.eval()  # its batch norms keep their statistics
            left = steps * (epoch + 1) - run.step
            title = f"{training.name}, epoch {epoch + 1}/{schedule.epochs}"
            for batch in _shown(islice(batches, left), left, title):
                run.note(step(batch), training.name)
                run.save_now_and_then(checkpoint)
            log(run.history[-1])
    run.save(checkpoint)
    network.load_state_dict(run.average, strict=False)
    network.eval()
    return run.history[-1]


@dataclass
class _Run:
    """The state of a training after `step` steps, from which it can be resumed.

    network, optimizer, rates : the network, its optimizer and its learning rate scheduler.
    processes : that train together.
    steps_an_epoch : number of steps per epoch.
    ema_decay : decay per step of `average`.
    average : exponential moving average of the floating-point entries of the network's state; empty
        if `ema_decay` is 0. It begins with the state before the first step.
    sums : sum of every term of the loss over the steps of the current epoch.
    history : means of every term in each finished epoch.
    saved : time of the last checkpoint, in seconds of the monotonic clock.
    """

    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    rates: torch.optim.lr_scheduler.LRScheduler
    processes: Processes
    steps_an_epoch: int
    ema_decay: float
    average: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    saved: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.ema_decay:
            self.average = {name: value.clone() for name, value in self._floats().items()}

    def update_average(self) -> None:
        """Update the moving average after a step.

        At first the decay is lower, so that the average forgets the weights before training: that
        of TensorFlow's ExponentialMovingAverage with `num_updates`.
        """
        if self.ema_decay:
            decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
            values = [value.detach() for value in self._floats().values()]
            torch._foreach_lerp_(list(self.average.values()), values, 1 - decay)

    def _floats(self) -> dict[str, Tensor]:
        state = self.network.state_dict()
        return {name: value for name, value in state.items() if value.is_floating_point()}

    def note(self, terms: Mapping[str, Tensor], what: str) -> None:
        """Record the terms of a step, and at the end of an epoch their means.

        Raises
        ------
        InputError
            If the loss is no longer finite.
        """
        self.step += 1
        self.sums = {name: self.sums.get(name, 0) + term for name, term in terms.items()}
        ended = self.step % self.steps_an_epoch == 0
        # Reading the value waits for the GPU, so this is not done at every step.
        seen = ended or self.step % 50 == 0 or not runtime.on_gpu(self.sums["loss"].device)
        if seen and not self._is_finite():
            reason = f"the loss of {what} is no longer finite at step {self.step}"
            self.processes.end(f"{reason}; lower the learning rate", self.sums["loss"])
        if ended:
            means = {name: float(value) / self.steps_an_epoch for name, value in self.sums.items()}
            self.history.append(means)
            self.sums = {}

    def save_now_and_then(self, path: Path) -> None:
        """Save a checkpoint if it is time for one and the loss is finite."""
        due = time.monotonic() - self.saved >= runtime.seconds_between_checkpoints()
        if due and self._is_finite():
            self.save(path)
            self.saved = time.monotonic()

    def save(self, path: Path) -> None:
        """Write the checkpoint atomically."""
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
                f"{path}: this checkpoint was not saved ({error.strerror}); make room and run "
                "again: training resumes from the checkpoint before it"
            ) from None

    def resume(self, path: Path) -> None:
        """Load the checkpoint if there is one. Raises InputError if it is damaged."""
        if not path.exists():
            return
        try:
            self._load(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch.load raises various errors for damaged files
            raise InputError(
                f"{path}: damaged ({first_line(error)}); remove it and run again"
            ) from None

    def _load(self, state: dict[str, Any]) -> None:
        device = next(self.network.parameters()).device
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        self.step, self.history = state["step"], state["history"]
        self.average = {name: value.to(device) for name, value in state["average"].items()}
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}

    def _is_finite(self) -> bool:
        return not self.sums or bool(torch.isfinite(self.sums["loss"]))

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
            "average": self.average,
            "step": self.step,
            "sums": self.sums,
            "history": self.history,
        }


def _step(run: _Run, loss: Loss, clip: float, seed: int, batch: Any) -> dict[str, Tensor]:
    """Take an optimizer step, and return the means of the loss terms over the whole batch."""
    processes = run.processes
    device = next(run.network.parameters()).device
    # Seeded in every step, so that checkpoints do not need the state of the generator.
    state = np.random.SeedSequence([seed, run.step, processes.rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))
    with runtime.autocast(device):
        terms = loss(to_device(batch, device))
    totals = torch.stack([term.total.float() for term in terms.values()])
    counts = torch.stack([_on(device, term.count) for term in terms.values()])
    whole, counts = processes.total(torch.stack([totals.detach(), counts]))
    counts = counts.clamp(min=1)
    run.optimizer.zero_grad(set_to_none=True)
    (totals / counts).sum().backward()
    processes.sum_gradients(run.network.parameters())
    if clip:
        torch.nn.utils.clip_grad_norm_(run.network.parameters(), clip)
    run.optimizer.step()
    run.rates.step()
    run.update_average()
    means = whole / counts
    return {**dict(zip(terms, means, strict=True)), "loss": means.sum()}


def _on(device: torch.device, count: Tensor | int) -> Tensor:
    """Return a count as a scalar that is created on the device: a copy would wait for the GPU."""
    if isinstance(count, Tensor):
        return count.to(device, torch.float32)
    return torch.full((), count, dtype=torch.float32, device=device)


def to_device(batch: Any, device: torch.device) -> Any:
    """Move the tensors of a batch to a device, images (4 dimensions) in channels-last layout."""
    if isinstance(batch, Tensor):
        if batch.dim() == 4:
            return runtime.channels_last(batch, device)
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return [to_device(value, device) for value in batch]
    return batch


def _shown(batches: Iterator[Any], count: int, title: str) -> Iterator[Any]:
    return track(batches, count, title) if runtime.is_main_process() else batches
