"""Training by the processes that torchrun started: each works its share of every batch.

Gradients are summed in one call after the backward pass. DistributedDataParallel would do that
while it runs, but wants every loss behind one `forward`, and every parameter reached by every
share; here losses are functions, and an image without an object reaches no mask head.
"""

import atexit
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from pipeline.common import runtime
from pipeline.common.errors import InputError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """How many processes train together, and which of them this one is."""

    rank: int = 0
    count: int = 1

    def share(self, batch: list[Item]) -> list[Item]:
        """What this process works of a batch; with fewer items than processes all work it whole."""
        if len(batch) < self.count:
            return batch
        start, stop = (len(batch) * rank // self.count for rank in (self.rank, self.rank + 1))
        return batch[start:stop]

    def total(self, values: Tensor) -> Tensor:
        """Sum a tensor over the processes: the same bits in each.

        Raises
        ------
        InputError
            If another process has ended.
        """
        if self.count == 1:
            return values
        summed = values.clone(memory_format=torch.contiguous_format)
        try:
            dist.all_reduce(summed)
        except RuntimeError as error:
            raise InputError(
                "another process of this training has ended; its own message says why "
                f"({str(error).splitlines()[0]})"
            ) from None
        return summed

    def wait(self) -> None:
        """Wait until every process has come here.

        Raises
        ------
        InputError
            If another process has ended.
        """
        self.total(torch.zeros((), device=runtime.device()))

    def end(self, reason: str, known: Tensor) -> NoReturn:
        """End the training for a `reason` that every process sees in `known`: the first says it.

        The others wait until it has: torchrun ends all when one of them ends.
        """
        if self.rank == 0:
            raise InputError(reason)
        with suppress(InputError):
            self.total(known)
        sys.exit(1)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the sum of all processes' gradients."""
        if self.count == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in learning:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in learning if parameter.grad is not None]
        summed = self.total(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = torch.split(summed, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            # In place: fused optimizers want a gradient in its parameter's memory layout.
            gradient.copy_(part.view_as(gradient))


def join() -> Processes:
    """Join the processes that torchrun started, by NCCL on GPUs and gloo on CPUs, or be alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    if not dist.is_initialized():
        device = runtime.device()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # A day: what the first process does alone, the others wait for.
        patience = timedelta(days=1)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patience)
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), dist.get_world_size())


def share_batch_statistics(network: nn.Module, processes: Processes) -> None:
    """Let batch norms that learn take means and variances of the whole batch, not of a share.

    torch's SyncBatchNorm does so on GPUs alone.
    """
    if processes.count == 1:
        return
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # On the instance, so that neither the weights' names nor the class change.
            module.forward = partial(_normalise, module, processes)  # type: ignore[method-assign]


def _normalise(norm: nn.BatchNorm2d, processes: Processes, features: Tensor) -> Tensor:
    """Batch norm over the processes (Ioffe and Szegedy 2015, Algorithm 1), (n, c, h, w) to same."""
    if not norm.training:
        return type(norm).forward(norm, features)
    shape = (1, -1, 1, 1)
    total: Callable[[Tensor], Tensor] = partial(_Total.apply, processes)
    values = features.float()
    count = processes.total(values.new_tensor(values.numel() / values.shape[1]))
    mean = total(values.sum((0, 2, 3))) / count
    centred = values - mean.view(shape)
    variance = total(centred.square().sum((0, 2, 3))) / count
    _follow(norm, mean.detach(), variance.detach() * count / (count - 1))
    scale = torch.rsqrt(variance + norm.eps) * norm.weight
    normalised = (centred * scale.view(shape) + norm.bias.view(shape)).to(features.dtype)
    if isinstance(norm, BatchNormAct2d):
        normalised = norm.act(norm.drop(normalised))
    return normalised


def _follow(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.momentum is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance, norm.momentum)
    norm.num_batches_tracked.add_(1)


class _Total(torch.autograd.Function):
    """`Processes.total` that gradients pass through: what each process got, each has caused."""

    @staticmethod
    def forward(ctx: Any, processes: Processes, values: Tensor) -> Tensor:
        ctx.processes = processes
        return processes.total(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.processes.total(gradient)
