"""Peak back-propagation: from one peak to the pixels that made it (PRM 3.2).

Going down through a convolution, a cell hands its share to the cells below in proportion to
what they contributed: P(below | above) is the input times the positive part of the weight,
normalised. Every other layer propagates its ordinary gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, Conv2dSame, get_same_padding, pad_same
from torch import Tensor, nn

EPSILON = 1e-10
# Peaks of an image that go back in one pass, where they go together: what bounds the memory.
TOGETHER = 8


class PeakBackpropagation:
    """A network's class response maps of some images, and the way back from their peaks.

    What no peak changes is worked once, when this is made: the forward pass, the shifted
    inputs, the normalising convolutions (PRM, equation 4), the derivatives of batch norms.

    Parameters
    ----------
    network : from images to class response maps, in evaluation mode.
    images : (m, 3, h, w).

    Attributes
    ----------
    maps : (m, C, h', w'), the class response maps.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self._images = images.detach().requires_grad_()
        with torch.enable_grad(), _recording(network):
            self._top: Tensor = network(self._images)
        _merge_factors(self._top)
        self.maps = self._top.detach()

    def responses(self, peaks: Tensor, stride: int, together: bool) -> Tensor:
        """Give the peak response maps of n peaks, in their order.

        Parameters
        ----------
        peaks : int64 (n, 4): image, class, and row and column in the class response maps.
        stride : pixels of the image a cell of the result, over which responses are summed; a
            divisor of h and w.
        together : whether the peaks go back in batches, which a GPU gains from and a CPU not.

        Returns
        -------
        (n, h / stride, w / stride), each of sum 1 (of sum 0 where nothing responds).
        """
        height, width = self._images.shape[-2:]
        pooled = self.maps.new_zeros((len(peaks), height // stride, width // stride))
        for rows, gradients in (self._together if together else self._one_by_one)(peaks):
            response = gradients.sum(1, keepdim=True).clamp(min=0)
            pooled[rows] = F.avg_pool2d(response, stride)[:, 0]
        total = pooled.sum((1, 2), keepdim=True).clamp(min=torch.finfo(pooled.dtype).tiny)
        return torch.div(pooled, total)

    def _one_by_one(self, peaks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every peak's row, and its gradient at its image: (1, 3, h, w)."""
        for row, peak in enumerate(peaks):
            image = peak[:1]
            (gradient,) = torch.autograd.grad(
                self._top[tuple(peak)], self._images, retain_graph=True
            )
            yield torch.tensor([row]), gradient[image]

    def _together(self, peaks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows of peaks, and their gradients at their images: (rows, 3, h, w).

        A pass goes back from several peaks of all images: images do not mix.
        """
        image = peaks[:, 0]
        earlier = (image[:, None] == image).tril(-1).sum(1)  # peaks of its image before it
        for first in range(0, int(earlier.max()) + 1 if len(peaks) else 0, TOGETHER):
            rows = ((earlier >= first) & (earlier < first + TOGETHER)).nonzero()[:, 0]
            turn = earlier[rows] - first
            start = self._top.new_zeros((int(turn.max()) + 1, *self._top.shape))
            start[turn, *peaks[rows].T] = 1
            (gradients,) = torch.autograd.grad(
                self._top, self._images, start, retain_graph=True, is_grads_batched=True
            )
            yield rows, gradients[turn, image[rows]]


@contextmanager
def _recording(network: nn.Module) -> Iterator[None]:
    """Within it, what `network` computes can be gone back through by PRM's rule."""
    rules: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
        nn.Conv2d: _convolve,
        nn.BatchNorm2d: _normalise,
    }
    changed = [
        (module, rule)
        for module in network.modules()
        for layer, rule in rules.items()
        if isinstance(module, layer)
    ]
    for module, rule in changed:
        setattr(module, "forward", partial(rule, module))  # noqa: B010
    try:
        yield
    finally:
        for module, _ in changed:
            delattr(module, "forward")


def _convolve(convolution: nn.Conv2d, below: Tensor) -> Tensor:
    """Convolve; backwards: the share of each cell above, spread, times the shifted input."""
    cells = below.detach()
    with torch.no_grad():
        result = _gather(convolution, convolution.weight, convolution.bias, cells)
        lowest = cells.amin((1, 2, 3), keepdim=True)
        shifted = cells - lowest if lowest.any() else cells  # 0 after a ReLU
        weight = convolution.weight.clamp(min=0)
        total = _gather(convolution, weight, weight.new_full((len(weight),), EPSILON), shifted)
    spread = partial(_spread, convolution, weight, below.shape[-2:])
    above: Tensor = _Spread.apply(below, total, spread, shifted, lambda: result)
    return above


def _is_pointwise(convolution: nn.Conv2d) -> bool:
    """Whether it is a matrix product, as which it is several times faster on one core."""
    one = (1, 1)
    return (
        type(convolution) is nn.Conv2d
        and convolution.kernel_size == convolution.stride == one
        and convolution.padding == (0, 0)
        and convolution.groups == 1
    )


def _gather(convolution: nn.Conv2d, weight: Tensor, bias: Tensor | None, below: Tensor) -> Tensor:
    """Sum, for every cell above, what all below give it through `weight`."""
    if _is_pointwise(convolution):
        return F.linear(below.movedim(1, -1), weight[:, :, 0, 0], bias).movedim(-1, 1)
    stride, dilation = convolution.stride, convolution.dilation
    if isinstance(convolution, Conv2dSame):  # whose own padding is 0
        below = pad_same(below, list(convolution.kernel_size), list(stride), list(dilation))
    return F.conv2d(below, weight, bias, stride, convolution.padding, dilation, convolution.groups)


def _spread(convolution: nn.Conv2d, weight: Tensor, below: torch.Size, above: Tensor) -> Tensor:
    """Sum, for every cell below, what all above give it through `weight`: the adjoint.

    `below` are the rows and columns of the result, a tensor that is nobody else's.
    """
    if _is_pointwise(convolution):
        return F.linear(above.movedim(1, -1), weight[:, :, 0, 0].T).movedim(-1, 1)
    first = _padding_before(convolution, below)
    stride, dilation = convolution.stride, convolution.dilation
    rest = [
        cells - ((count - 1) * step - 2 * padding + spacing * (window - 1) + 1)
        for cells, count, step, padding, spacing, window in zip(
            below,
            above.shape[-2:],
            stride,
            first,
            dilation,
            convolution.kernel_size,
            strict=True,
        )
    ]
    rest = [max(cells, 0) for cells in rest]  # Conv2dSame may pad one more behind: cut off
    groups = convolution.groups
    spread = F.conv_transpose2d(above, weight, None, stride, first, rest, groups, dilation)
    return spread.narrow(-2, 0, below[0]).narrow(-1, 0, below[1])


def _padding_before(convolution: nn.Conv2d, below: torch.Size) -> list[int]:
    """How many cells of padding come before the first row and the first column."""
    if not isinstance(convolution, Conv2dSame):
        assert not isinstance(convolution.padding, str), "timm pads 'same' with Conv2dSame"
        return list(convolution.padding)
    windows = convolution.kernel_size, convolution.stride, convolution.dilation
    return [get_same_padding(*along) // 2 for along in zip(below, *windows, strict=True)]


def _normalise(norm: nn.BatchNorm2d, below: Tensor) -> Tensor:
    """Apply a batch norm, with timm's activation in it; backwards: times its derivative.

    In evaluation mode it takes every number by itself, so that derivative is one of its shape.
    """
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None, "a backbone's batch norms keep statistics"
    assert variance is not None, "a backbone's batch norms keep statistics"
    with torch.no_grad():
        slope = norm.weight * (variance + norm.eps).rsqrt()
        offset = norm.bias - mean * slope
        slope, offset = slope[:, None, None], offset[:, None, None]
        result = torch.addcmul(offset, below, slope)
    if isinstance(norm, BatchNormAct2d) and not isinstance(norm.act, nn.Identity):
        result, slope = _activate(norm.act, result, slope)
    above: Tensor = _Scale.apply(below, slope, lambda: result)
    return above


def _activate(activation: nn.Module, below: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Give an activation's result, and its derivative times `slope`."""
    activation = copy(activation)
    setattr(activation, "inplace", False)  # noqa: B010
    with torch.enable_grad():
        result = activation(below.requires_grad_())
        (derivative,) = torch.autograd.grad(result, below, slope.expand_as(below))
    return result.detach(), derivative


class _Scale(torch.autograd.Function):
    """Forwards, what `result` gives; backwards, times a factor."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, factor: Tensor, result: Callable[[], Tensor]) -> Tensor:
        ctx.factor = factor
        return result()

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        return above[0] if ctx.factor is None else above[0] * ctx.factor, None, None


class _Spread(torch.autograd.Function):
    """Forwards, what `result` gives; backwards, divided by `total`, spread, times `factor`."""

    @staticmethod
    def forward(
        ctx: Any,
        _: Tensor,
        total: Tensor,
        spread: Callable[[Tensor], Tensor],
        factor: Tensor,
        result: Callable[[], Tensor],
    ) -> Tensor:
        ctx.total, ctx.spread, ctx.factor = total, spread, factor
        return result()

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None, None, None]:
        shares = above[0] if ctx.total is None else above[0] / ctx.total
        return ctx.spread(shares).mul_(ctx.factor), None, None, None, None


def _merge_factors(top: Tensor) -> None:
    """Make one factor of those that follow each other: a pass over memory saved, each, a peak."""
    nodes: list[Any] = [top.grad_fn]
    takers: dict[Any, list[Any]] = {}  # whose gradients a node gets
    for node in nodes:
        for below, _ in node.next_functions:
            if below is None:
                continue
            if below not in takers:
                nodes.append(below)
            takers.setdefault(below, []).append(node)
    # From the bottom up: a factor moves to where the only gradient for it is made.
    for node in reversed(nodes[1:]):
        above, *others = takers[node]
        if others or getattr(above, "factor", None) is None:
            continue
        if hasattr(node, "total"):
            above.factor, node.total = above.factor / node.total, None
        elif hasattr(node, "factor"):
            above.factor, node.factor = above.factor * node.factor, None
