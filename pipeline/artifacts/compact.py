"""Weights files of a third of the size, for the weights that come with this software.

Large matrices are stored as 8-bit integers with a scale for each output channel (Krishnamoorthi,
arXiv:1806.08342: symmetric, per channel), other matrices in half precision. Vectors, such as
biases and the statistics of batch norms, stay as they are: they are small, and they multiply
whole channels.
"""

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pipeline.common import files

SCALE = ":scale"  # end of the name of a tensor of scales
LARGE = 2**14  # numbers of a matrix that is stored in 8 bits
LEVELS = 127  # largest 8-bit integer that is used, for both signs


def write_compact(source: Path, target: Path) -> None:
    """Write a compact copy of a weights file, with the same description."""
    with safetensors.safe_open(source, "pt") as opened:
        metadata = opened.metadata()
        state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    files.write_bytes(target, safetensors.torch.save(compact(state), metadata))


def compact(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a compact file, for those of a state dict."""
    smaller: dict[str, Tensor] = {}
    for name, values in state.items():
        if values.dim() < 2 or not values.is_floating_point():
            smaller[name] = values
        elif values.numel() < LARGE:
            smaller[name] = values.half()
        else:
            smaller[name], smaller[name + SCALE] = quantize(values)
    return smaller


def quantize(values: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix to 8-bit integers.

    Parameters
    ----------
    values : float32 (n, ...), n output channels.

    Returns
    -------
    int8 of the same shape, and the scale of each channel, float32 (n, 1, ...): their product
    differs from `values` by at most half a scale.
    """
    largest = values.abs().amax(tuple(range(1, values.dim())), keepdim=True)
    scale = largest.clamp(min=torch.finfo(torch.float32).tiny) / LEVELS
    return torch.round(values / scale).to(torch.int8), scale


def expand(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a weights file, compact or not.

    Raises
    ------
    KeyError
        If the scales of an 8-bit matrix are missing.
    RuntimeError
        If they are not one for each channel: their product with the matrix could be far larger.
    """
    return {
        name: values * _scale(state, name) if values.dtype == torch.int8 else values
        for name, values in state.items()
        if not name.endswith(SCALE)
    }


def _scale(state: dict[str, Tensor], name: str) -> Tensor:
    scale, matrix = state[name + SCALE], state[name]
    if scale.shape != matrix.shape[:1] + (1,) * (matrix.dim() - 1):
        raise RuntimeError(f"{name + SCALE} is not one scale for each channel")
    return scale
