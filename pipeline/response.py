"""Peak back-propagation: from one peak to the pixels that made it (PRM 3.2).

Going down through a convolution, a cell hands its share to the cells below in proportion to
what they contributed: P(below | above) is the input times the positive part of the weight,
normalised. Every other layer propagates its ordinary gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

EPSILON = 1e-10


def peak_responses(network: nn.Module, image: Tensor, peaks: Tensor, stride: int) -> Tensor:
    """Peak response maps of one image.

    Parameters
    ----------
    network : from images to class response maps (1, C, h', w').
    image : (1, 3, h, w), h and w multiples of `stride`.
    peaks : int64 (n, 3): class, row and column in the class response maps.
    stride : pixels of the image a cell of the result, over which responses are summed.

    Returns
    -------
    float32 (n, h / stride, w / stride), each of sum 1 (of sum 0 where nothing responds).
    """
    height, width = image.shape[-2] // stride, image.shape[-1] // stride
    with torch.enable_grad(), peak_backpropagation(network):
        image = image.detach().requires_grad_()
        maps = network(image)
        heights = [maps[0, label, y, x] for label, y, x in peaks.tolist()]
        gradients = [torch.autograd.grad(h, image, retain_graph=True)[0] for h in heights]
    if not gradients:
        return image.new_zeros((0, height, width))
    response = torch.cat(gradients).sum(1, keepdim=True).clamp(min=0)
    pooled = F.avg_pool2d(response, stride)[:, 0]
    return pooled / pooled.sum((1, 2), keepdim=True).clamp(min=torch.finfo(pooled.dtype).tiny)


@contextmanager
def peak_backpropagation(network: nn.Module) -> Iterator[None]:
    """Within it, gradients pass the convolutions of `network` by PRM's rule."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        setattr(convolution, "forward", partial(_PeakConvolution.apply, convolution))  # noqa: B010
    try:
        yield
    finally:
        for convolution in convolutions:
            delattr(convolution, "forward")


class _PeakConvolution(torch.autograd.Function):
    """A convolution forwards; backwards, the top-down rule of PRM, equation 4."""

    @staticmethod
    def forward(ctx: Any, convolution: nn.Conv2d, below: Tensor) -> Tensor:
        # What no peak changes is worked here, once an image: inputs made non-negative by
        # their minimum, and what all of them contribute to each cell above.
        shifted = below - below.min()
        padded, corner = _pad(convolution, shifted)
        weight = convolution.weight.clamp(min=0)
        total = _convolve(convolution, padded, weight)
        ctx.convolution, ctx.corner, ctx.padded_shape = convolution, corner, padded.shape
        ctx.save_for_backward(shifted, weight, total)
        return type(convolution).forward(convolution, below)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[None, Tensor]:
        shifted, weight, total = ctx.saved_tensors
        convolution: nn.Conv2d = ctx.convolution
        spread: Tensor = conv2d_input(  # type: ignore[no-untyped-call]
            ctx.padded_shape,
            weight,
            above[0] / (total + EPSILON),
            stride=convolution.stride,
            dilation=convolution.dilation,
            groups=convolution.groups,
        )
        top, left = ctx.corner
        height, width = shifted.shape[-2:]
        return None, spread[..., top : top + height, left : left + width] * shifted


def _convolve(convolution: nn.Conv2d, padded: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(
        padded,
        weight,
        stride=convolution.stride,
        dilation=convolution.dilation,
        groups=convolution.groups,
    )


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
