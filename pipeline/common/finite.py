"""A check that weights are numbers."""

from collections.abc import Mapping

from torch import Tensor

from pipeline.common.errors import InputError


def check(where: str, state: Mapping[str, Tensor]) -> None:
    """Raise InputError if a tensor of a state dict holds NaN or an infinite number, naming it."""
    for name, tensor in state.items():
        finite = tensor.isfinite()
        if not finite.all():
            wrong = int((~finite).sum())
            raise InputError(f"{where}: {name}: {wrong} of {tensor.numel()} numbers are not finite")
