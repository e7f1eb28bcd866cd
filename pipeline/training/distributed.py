"""Data-parallel training in the processes that torchrun started.

Every process computes its share of each batch. Gradients are summed in one call after the
backward pass. DistributedDataParallel sums them during that pass, but requires that the loss is
computed in `forward` and that every process uses every parameter. Here losses are functions, and
images without objects do not use the mask head.
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
from pipeline.common.errors import InputError, first_line

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """The processes that train together.

    rank : index of this process.
    count : number of processes.
    """

    rank: int = 0
    count: int = 1

    def share(self, batch: list[Item]) -> list[Item]:
        """Return the share of a batch that this process computes.

        If a batch has fewer items than there are processes, every process computes all of it.
        """
        if len(batch) < self.count:
            return batch
        start, stop = (len(batch) * rank // self.count for rank in (self.rank, self.rank + 1))
        return batch[start:stop]

    def total(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes; the result is bit-identical in each.

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
                f"({first_line(error)})"
            ) from None
        return summed

    def wait(self) -> None:
        """Wait until all processes have reached this point.

        Raises
        ------
        InputError
            If another process has ended.
        """
        # With NCCL, `total` only queues the exchange: reading its result waits for it.
        self.total(torch.zeros((), device=runtime.device())).item()

    def end(self, reason: str, known: Tensor) -> NoReturn:
        """End the training for a reason that all processes have detected in the tensor `known`.

        The first process raises the error. The others wait for that, since torchrun kills all
        processes as soon as one ends.
        """
        if self.rank == 0:
            raise InputError(reason)
        with suppress(InputError):
            self.total(known).item()
        sys.exit(1)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their sums over all processes."""
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
            # In place: fused optimizers require the memory layout of the parameter.
            gradient.copy_(part.view_as(gradient))


def join() -> Processes:
    """Initialize distributed training (NCCL on GPUs, gloo on CPUs) if torchrun started this."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    if not dist.is_initialized():
        device = runtime.device()
        if runtime.on_gpu(device):
            torch.cuda.set_device(device)
        # The other processes wait while the first one works alone, which may take hours.
        timeout = timedelta(days=1)
        dist.init_process_group("nccl" if runtime.on_gpu(device) else "gloo", timeout=timeout)
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), dist.get_world_size())


def share_batch_statistics(network: nn.Module, processes: Processes) -> None:
    """Make batch norms use the statistics of the whole batch instead of those of a share.

    Unlike torch's SyncBatchNorm, this also works on CPUs.
    """
    if processes.count == 1:
        return
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Set on the instance: the class and the names of the weights stay the same.
            module.forward = partial(_normalize, module, processes)  # type: ignore[method-assign]


def _normalize(norm: nn.BatchNorm2d, processes: Processes, features: Tensor) -> Tensor:
    """Normalize features (n, c, h, w) over all processes (Ioffe and Szegedy 2015, Algorithm 1)."""
    if not norm.training:
        return type(norm).forward(norm, features)
    shape = (1, -1, 1, 1)
    total: Callable[[Tensor], Tensor] = partial(_Total.apply, processes)
    values = features.float()
    count = processes.total(values.new_tensor(values.numel() / values.shape[1]))
    mean = total(values.sum((0, 2, 3))) / count
    centered = values - mean.view(shape)
    variance = total(centered.square().sum((0, 2, 3))) / count
    _update_running_statistics(norm, mean.detach(), variance.detach() * count / (count - 1))
    scale = torch.rsqrt(variance + norm.eps) * norm.weight
    normalized = (centered * scale.view(shape) + norm.bias.view(shape)).to(features.dtype)
    if isinstance(norm, BatchNormAct2d):
        normalized = norm.act(norm.drop(normalized))
    return normalized


def _update_running_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.momentum is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance, norm.momentum)
    norm.num_batches_tracked.add_(1)


class _Total(torch.autograd.Function):
    """`Processes.total` with a gradient, which is also summed over the processes."""

    @staticmethod
    def forward(ctx: Any, processes: Processes, values: Tensor) -> Tensor:
        ctx.processes = processes
        return processes.total(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.processes.total(gradient)
