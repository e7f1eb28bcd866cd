"""Peak back-propagation: from one peak to the pixels that made it (PRM 3.2).

Going down through a convolution, a cell hands its share to the cells below in proportion to
what they contributed: P(below | above) is the input times the positive part of the weight,
normalised. Every other layer propagates its ordinary gradient.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, Conv2dSame, pad_same
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
    with torch.no_grad():
        if _is_pointwise(convolution):
            result = _gather(convolution, convolution.weight, below)
            if convolution.bias is not None:
                result += convolution.bias[:, None, None]
        else:
            result = type(convolution).forward(convolution, below)
        shifted = below - below.amin((1, 2, 3), keepdim=True)
        weight = convolution.weight.clamp(min=0)
        padded, corner = _pad(convolution, shifted)
        share = 1 / (_gather(convolution, weight, padded) + EPSILON)
    spread = partial(_spread, convolution, weight, padded.shape[-2:], corner, below.shape[-2:])
    below = _Scale.apply(below, shifted, lambda: below.view_as(below))
    between = _Spread.apply(below, spread, lambda: result)
    above: Tensor = _Scale.apply(between, share, lambda: result)
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


def _gather(convolution: nn.Conv2d, weight: Tensor, padded: Tensor) -> Tensor:
    """Sum, for every cell above, what all below give it through `weight`."""
    if _is_pointwise(convolution):
        return F.linear(padded.movedim(1, -1), weight[:, :, 0, 0]).movedim(-1, 1)
    settings = (convolution.stride, 0, convolution.dilation, convolution.groups)
    return F.conv2d(padded, weight, None, *settings)


def _spread(
    convolution: nn.Conv2d,
    weight: Tensor,
    padded: torch.Size,
    corner: tuple[int, int],
    below: torch.Size,
    above: Tensor,
) -> Tensor:
    """Sum, for every cell below, what all above give it through `weight`: the adjoint."""
    if _is_pointwise(convolution):
        return F.linear(above.movedim(1, -1), weight[:, :, 0, 0].T).movedim(-1, 1)
    stride, dilation = convolution.stride, convolution.dilation
    reached = [
        (cells - 1) * step + spacing * (window - 1) + 1
        for cells, step, spacing, window in zip(
            above.shape[-2:], stride, dilation, convolution.kernel_size, strict=True
        )
    ]
    rest = [side - end for side, end in zip(padded, reached, strict=True)]
    spread = F.conv_transpose2d(above, weight, None, stride, 0, rest, convolution.groups, dilation)
    top, left = corner
    return spread.narrow(-2, top, below[0]).narrow(-1, left, below[1])


def _normalise(norm: nn.BatchNorm2d, below: Tensor) -> Tensor:
    """Apply a batch norm, with timm's activation in it; backwards: times its derivative.

    In evaluation mode it takes every number by itself, so that derivative is one of its shape.
    """
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None, "a trunk's batch norms keep statistics"
    assert variance is not None, "a trunk's batch norms keep statistics"
    with torch.no_grad():
        slope = norm.weight * (variance + norm.eps).rsqrt()
        offset = norm.bias - mean * slope
    with torch.enable_grad():
        given = below.detach().requires_grad_()
        straight = torch.addcmul(offset[:, None, None], given, slope[:, None, None])
        result = norm.act(straight) if isinstance(norm, BatchNormAct2d) else straight
        (derivative,) = torch.autograd.grad(result.sum(), given)
    above: Tensor = _Scale.apply(below, derivative, result.detach)
    return above


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
    """Forwards, what `result` gives; backwards, `spread`."""

    @staticmethod
    def forward(
        ctx: Any, _: Tensor, spread: Callable[[Tensor], Tensor], result: Callable[[], Tensor]
    ) -> Tensor:
        ctx.spread = spread
        return result()

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        return ctx.spread(above[0]), None, None


def _merge_factors(top: Tensor) -> None:
    """Make one factor of those that follow each other: a pass over memory saved, each, a peak."""
    consumers = Counter({top.grad_fn: 0})
    waiting = [top.grad_fn]
    while waiting:
        node: Any = waiting.pop(0)
        for below, _ in node.next_functions:
            if below is None:
                continue
            if below not in consumers:
                waiting.append(below)
            consumers[below] += 1
    # From the top down: a factor moves on through all that its gradient alone goes through.
    for node in consumers:
        under: Any = node.next_functions[0][0] if node and node.next_functions else None
        mergeable = consumers[under] == 1 and hasattr(under, "factor")
        if hasattr(node, "factor") and mergeable:
            under.factor = under.factor * node.factor
            node.factor = None


def _pad(convolution: nn.Conv2d, below: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Pad as the convolution would, and say where the original begins (row, column)."""
    if isinstance(convolution, Conv2dSame):
        window, step, dilation = (
            list(shape)
            for shape in (convolution.kernel_size, convolution.stride, convolution.dilation)
        )
        padded = pad_same(below, window, step, dilation)
        extra_height = padded.shape[-2] - below.shape[-2]
        extra_width = padded.shape[-1] - below.shape[-1]
        return padded, (extra_height // 2, extra_width // 2)
    assert not isinstance(convolution.padding, str), "timm pads 'same' with Conv2dSame"
    top, left = convolution.padding
    return F.pad(below, (left, left, top, top)), (top, left)
