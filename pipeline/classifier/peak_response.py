"""Peak backpropagation: from a peak to the pixels that contributed to it (PRM 3.2).

Backwards through a convolution, the response of an output cell is distributed to the input cells
in proportion to their contributions: P(input | output) is the input times the positive part of the
weight, normalized. All other layers propagate their ordinary gradients.
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

from pipeline.common import runtime

EPSILON = 1e-10
# Peaks per image and pass in batched backpropagation, which bounds the memory.
PEAKS_PER_PASS = 8


class PeakBackpropagation:
    """Class response maps of images, and backpropagation from their peaks.

    What is the same for all peaks is computed once, in the constructor: the forward pass, the
    shifted inputs, the normalizing convolutions (PRM, equation 4), the derivatives of batch norms.

    Parameters
    ----------
    network : computes class response maps from images, in evaluation mode.
    images : float (m, 3, h, w).

    Attributes
    ----------
    maps : class response maps, float (m, C, h', w').
    """

    @runtime.without_tf32()  # the errors of all layers would add up in a response
    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self._images = images.detach().requires_grad_()
        with torch.enable_grad(), _recording(network):
            self._top: Tensor = network(self._images)
        _merge_factors(self._top)
        self.maps = self._top.detach()

    @runtime.without_tf32()
    def responses(self, peaks: Tensor, stride: int, together: bool) -> Tensor:
        """Compute the peak response maps of n peaks.

        Parameters
        ----------
        peaks : int64 (n, 4), on the CPU: image, class, and row and column in the class response
            maps.
        stride : of the result, in pixels of the image; a divisor of h and w.
        together : whether to backpropagate peaks in batches, which is faster on a GPU only.

        Returns
        -------
        float (n, h / stride, w / stride); each map sums to 1, or to 0 if there is no response.
        """
        height, width = self._images.shape[-2:]
        pooled = self.maps.new_zeros((len(peaks), height // stride, width // stride))
        for rows, gradients in (self._together if together else self._one_by_one)(peaks):
            response = gradients.sum(1, keepdim=True).clamp(min=0)
            pooled[rows] = F.avg_pool2d(response, stride)[:, 0]
        total = pooled.sum((1, 2), keepdim=True).clamp(min=torch.finfo(pooled.dtype).tiny)
        return torch.div(pooled, total)

    def _one_by_one(self, peaks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the index of every peak and the gradient of its image: (1, 3, h, w)."""
        for row, peak in enumerate(peaks):
            image = peak[:1]
            (gradient,) = torch.autograd.grad(
                self._top[tuple(peak)], self._images, retain_graph=True
            )
            yield torch.tensor([row]), gradient[image]

    def _together(self, peaks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the indices of k peaks and the gradients of their images: (k, 3, h, w).

        A pass starts from several peaks of all images, since images do not affect each other.
        """
        image = peaks[:, 0]
        earlier = (image[:, None] == image).tril(-1).sum(1)  # earlier peaks of the same image
        for first in range(0, int(earlier.max()) + 1 if len(peaks) else 0, PEAKS_PER_PASS):
            rows = ((earlier >= first) & (earlier < first + PEAKS_PER_PASS)).nonzero()[:, 0]
            turn = earlier[rows] - first
            start = self._top.new_zeros((int(turn.max()) + 1, *self._top.shape))
            # One copy, which does not wait for the GPU, as indexing with CPU tensors would.
            indices = torch.stack([rows, turn, *peaks[rows].T])
            rows, turn, of_image, *cell = indices.to(start.device, non_blocking=True)
            start.index_put_((turn, of_image, *cell), start.new_ones(()))
            (gradients,) = torch.autograd.grad(
                self._top, self._images, start, retain_graph=True, is_grads_batched=True
            )
            yield rows, gradients[turn, of_image]


@contextmanager
def _recording(network: nn.Module) -> Iterator[None]:
    """Context in which the computations of `network` are recorded for PRM's backpropagation."""
    rules: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
        nn.Conv2d: _convolve,
        nn.BatchNorm2d: _normalize,
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
    """Convolve. Backward: divide by the normalization, transpose-convolve, times shifted input."""
    cells = below.detach()
    with torch.no_grad():
        result = _gather(convolution, convolution.weight, convolution.bias, cells)
        lowest = cells.amin((1, 2, 3), keepdim=True)
        # After a ReLU the lowest is 0. To find that out, the host would wait for a GPU.
        shifted = cells - lowest if runtime.on_gpu(cells.device) or lowest.any() else cells
        weight = convolution.weight.clamp(min=0)
        total = _gather(convolution, weight, weight.new_full((len(weight),), EPSILON), shifted)
    spread = partial(_spread, convolution, weight, below.shape[-2:])
    above: Tensor = _Spread.apply(below, total, spread, shifted, lambda: result)
    return above


def _is_pointwise(convolution: nn.Conv2d) -> bool:
    """Whether a convolution is a matrix product, which is several times faster on one core."""
    one = (1, 1)
    return (
        type(convolution) is nn.Conv2d
        and convolution.kernel_size == convolution.stride == one
        and convolution.padding == (0, 0)
        and convolution.groups == 1
    )


def _gather(convolution: nn.Conv2d, weight: Tensor, bias: Tensor | None, below: Tensor) -> Tensor:
    """Convolve `below` with `weight` and the settings of the convolution."""
    if _is_pointwise(convolution):
        return F.linear(below.movedim(1, -1), weight[:, :, 0, 0], bias).movedim(-1, 1)
    stride, dilation = convolution.stride, convolution.dilation
    if isinstance(convolution, Conv2dSame):  # its `padding` is 0
        below = pad_same(below, list(convolution.kernel_size), list(stride), list(dilation))
    return F.conv2d(below, weight, bias, stride, convolution.padding, dilation, convolution.groups)


def _spread(convolution: nn.Conv2d, weight: Tensor, below: torch.Size, above: Tensor) -> Tensor:
    """Transpose-convolve `above` with `weight`: the adjoint of `_gather`.

    `below` is the height and width of the result, which is a new tensor.
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
    rest = [max(cells, 0) for cells in rest]  # Conv2dSame may pad one more at the end: cropped
    groups = convolution.groups
    spread = F.conv_transpose2d(above, weight, None, stride, first, rest, groups, dilation)
    return spread.narrow(-2, 0, below[0]).narrow(-1, 0, below[1])


def _padding_before(convolution: nn.Conv2d, below: torch.Size) -> list[int]:
    """Return the padding before the first row and before the first column, in cells."""
    if not isinstance(convolution, Conv2dSame):
        assert not isinstance(convolution.padding, str), "timm pads 'same' with Conv2dSame"
        return list(convolution.padding)
    windows = convolution.kernel_size, convolution.stride, convolution.dilation
    return [get_same_padding(*along) // 2 for along in zip(below, *windows, strict=True)]


def _normalize(norm: nn.BatchNorm2d, below: Tensor) -> Tensor:
    """Apply a batch norm and timm's activation in it. Backward: multiply by the derivative.

    In evaluation mode both act on every element by itself, and so does the derivative.
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
    """Return the result of an activation, and its derivative times `slope`."""
    activation = copy(activation)
    setattr(activation, "inplace", False)  # noqa: B010
    with torch.enable_grad():
        result = activation(below.requires_grad_())
        (derivative,) = torch.autograd.grad(result, below, slope.expand_as(below))
    return result.detach(), derivative


class _Scale(torch.autograd.Function):
    """Forward: the value of `result()`. Backward: multiply by `factor`."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, factor: Tensor, result: Callable[[], Tensor]) -> Tensor:
        ctx.factor = factor
        return result()

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        return above[0] if ctx.factor is None else above[0] * ctx.factor, None, None


class _Spread(torch.autograd.Function):
    """Forward: the value of `result()`. Backward: divide by `total`, `spread`, times `factor`."""

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
    """Merge consecutive factors into one, which saves a pass over memory for each peak."""
    nodes: list[Any] = [top.grad_fn]
    takers: dict[Any, list[Any]] = {}  # the nodes that a node receives gradients from
    for node in nodes:
        for below, _ in node.next_functions:
            if below is None:
                continue
            if below not in takers:
                nodes.append(below)
            takers.setdefault(below, []).append(node)
    # From the bottom up: a factor moves to the node above if that is its only source of gradients.
    for node in reversed(nodes[1:]):
        above, *others = takers[node]
        if others or getattr(above, "factor", None) is None:
            continue
        if hasattr(node, "total"):
            above.factor, node.total = above.factor / node.total, None
        elif hasattr(node, "factor"):
            above.factor, node.factor = above.factor * node.factor, None
