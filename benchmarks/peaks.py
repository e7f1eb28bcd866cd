"""Peak response maps of one image, compared with the published procedure.

The published procedure (ZhouYanzhao/PRM, PyTorch) changes each convolution by a hook before and a
hook after it. Its normalizing convolution is part of the autograd graph, including parameters.
Images are processed one at a time, with one backward pass per peak. It is measured twice: with one
forward pass per image, and with one forward pass per peak. Both sides start from the pixels,
compute the class response maps, and have the same network and peaks. On a GPU, two processes are
compared with one, too.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

from benchmarks.table import Line, side_by_side
from pipeline.classifier.network import Prm, PrmDescription
from pipeline.classifier.peak_response import PeakBackpropagation
from pipeline.common import runtime

EPSILON = 1e-10
SIDES = (352, 448)
PEAKS = 3
REPEATED = 20  # images of a process
BACKBONE = "tf_efficientnet_lite0"


def lines() -> Iterator[Line]:
    """Yield seconds per image."""
    for side in SIDES:
        network, images, peaks = example(side)
        where = f"{PEAKS} peak response maps, Lite0 at {side} px"
        for once, what in ((True, "one forward per image"), (False, "one forward per peak")):
            ours, theirs = side_by_side(
                partial(here, network, images, peaks),
                partial(published, network, images, peaks, once),
                runs=5,
            )
            error = relative_error(network, images, peaks)
            note = f"differ by {error:.0e} relative at most"
            yield Line(where, "s per image", ours, f"published hooks, {what}", theirs, note)
    if runtime.on_gpu(runtime.device()):
        yield two_processes()


def two_processes() -> Line:
    """Compare the images per second of two processes on one device with those of one."""
    several = partial(_several, SIDES[0], REPEATED)
    with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
        seconds = side_by_side(
            lambda: [done.result() for done in [pool.submit(several), pool.submit(several)]],
            several,
            runs=3,
        )
    two, one = 2 * REPEATED / seconds[0], REPEATED / seconds[1]
    job = f"{PEAKS} peak response maps, Lite0 at {SIDES[0]} px, two processes"
    return Line(job, "images/s", two, "one process", one)


def _several(side: int, count: int) -> None:
    network, images, peaks = _example_of_process(side)
    for _ in range(count):
        here(network, images, peaks)
    runtime.synchronize(images.device)


@cache
def _example_of_process(side: int) -> tuple[Prm, Tensor, Tensor]:
    return example(side)


def example(side: int) -> tuple[Prm, Tensor, Tensor]:
    """Return a network with ImageNet's backbone, an image (1, 3, side, side), its peaks (n, 4)."""
    torch.manual_seed(0)
    description = PrmDescription(backbone=BACKBONE, classes=("a", "b"), image_size=side, upsample=8)
    network = runtime.channels_last(Prm(description, "package").eval(), runtime.device())
    coarse = torch.rand(1, 3, 12, 12, device=runtime.device())
    images = F.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    rows, columns = torch.randint(side // 4, (2, PEAKS))
    labels = torch.arange(PEAKS) % 2
    peaks = torch.stack([torch.zeros_like(labels), labels, rows, columns], 1)
    images = runtime.channels_last(images, runtime.device())
    return network, images, peaks


def here(network: nn.Module, images: Tensor, peaks: Tensor) -> Tensor:
    backpropagation = PeakBackpropagation(network, images)
    return backpropagation.responses(peaks, 1, together=runtime.on_gpu(images.device))


def published(network: nn.Module, images: Tensor, peaks: Tensor, once: bool) -> Tensor:
    """Compute response maps (n, h, w), with one forward pass in total or one per peak."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        setattr(convolution, "forward", partial(_hooked, convolution))  # noqa: B010
    pixels = images.detach().clone().requires_grad_()
    maps, responses = network(pixels), []
    for number, peak in enumerate(peaks):
        if number and not once:
            maps = network(pixels)
        start = torch.zeros_like(maps)
        start[tuple(peak)] = 1
        pixels.grad = None
        maps.backward(start, retain_graph=True)
        assert pixels.grad is not None
        response = pixels.grad[0].sum(0).clamp(min=0)
        responses.append(response / response.sum())
    for convolution in convolutions:
        delattr(convolution, "forward")
    return torch.stack(responses)


def relative_error(network: nn.Module, images: Tensor, peaks: Tensor) -> float:
    """Compute the largest difference of the two, relative to the maximum of each map."""
    first, second = here(network, images, peaks), published(network, images, peaks, once=True)
    return ((first - second).abs().amax((1, 2)) / second.amax((1, 2))).max().item()


def _hooked(convolution: nn.Conv2d, below: Tensor) -> Tensor:
    lowest = below.min().detach()
    below = _Before.apply(below, lowest)  # type: ignore[no-untyped-call]
    result = type(convolution).forward(convolution, below).detach()
    positive = F.relu(convolution.weight).detach()
    padding: Any = convolution.padding
    padded = below - lowest
    if isinstance(convolution, Conv2dSame):
        geometry = convolution.kernel_size, convolution.stride, convolution.dilation
        padded, padding = pad_same(padded, *map(list, geometry)), 0
    norm = F.conv2d(
        padded,
        positive,
        None,
        convolution.stride,
        padding,
        convolution.dilation,
        convolution.groups,
    )
    return _After.apply(result, norm)  # type: ignore[no-any-return,no-untyped-call]


class _Before(torch.autograd.Function):
    """The hook before a convolution: gradients times the shifted input."""

    @staticmethod
    def forward(ctx: Any, below: Tensor, lowest: Tensor) -> Tensor:
        ctx.save_for_backward(below, lowest)
        return below.clone()

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        below, lowest = ctx.saved_tensors
        return (below - lowest) * above[0], None


class _After(torch.autograd.Function):
    """The hook after a convolution: passes normalized gradients to the normalizing convolution."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, norm: Tensor) -> Tensor:
        ctx.save_for_backward(norm)
        return result.clone()

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[None, Tensor]:
        (norm,) = ctx.saved_tensors
        share = above[0] / (norm.abs() + EPSILON)
        share[norm < EPSILON] = 0
        return None, share
