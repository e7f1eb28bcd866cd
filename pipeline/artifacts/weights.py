"""Weights of networks in safetensors files, which also hold the description of the network."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ValidationError
from torch.overrides import TorchFunctionMode

from pipeline.artifacts.compact import compact, expand
from pipeline.common import files, finite
from pipeline.common.errors import InputError, first_line

Description = TypeVar("Description", bound=BaseModel)
Network = TypeVar("Network", bound=torch.nn.Module)

# A network may have parts that are not in its file: pretrained classes that a backbone drops.
SPARE_NUMBERS = 2**27


def write_weights(
    path: Path, module: torch.nn.Module, description: BaseModel, *, small: bool = False
) -> None:
    """Write the state dict of a network and the `description` from which it can be rebuilt.

    Parameters
    ----------
    small : whether the weights are rounded to a third of their size, see `compact`.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    if small:
        state = compact(state)
    # A single key: safetensors does not preserve the order of several.
    metadata = {"description": description.model_dump_json()}
    files.write_bytes(path, safetensors.torch.save(state, metadata))


def read_description(path: Path, model: type[Description]) -> Description:
    """Read the description of a network from a file of `write_weights`.

    Raises
    ------
    InputError
        If the file is missing or broken, or holds another kind of network, or one of another
        version of this software.
    """
    files.open_file(path, "missing; the stage that writes it has not run").close()
    try:
        with safetensors.safe_open(path, "pt") as weights:
            metadata = weights.metadata() or {}
        return model.model_validate_json(metadata.get("description", "{}"))
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: not a weights file, or broken ({first_line(error)})") from None
    except ValidationError as error:
        raise InputError(
            f"{path}: not the weights of a {model.__name__.removesuffix('Description')}, or of "
            f"another version ({files.first_error(error)})"
        ) from None


def load_network(
    path: Path, model: type[Description], build: Callable[[Description], Network]
) -> Network:
    """Build a network from its description and load its weights, from a file of `write_weights`.

    Raises
    ------
    InputError
        If the file is missing or holds something else, if its description asks for more memory
        than its weights take, or if a weight is not finite.
    """
    description = read_description(path, model)
    with safetensors.safe_open(path, "pt") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    try:
        with _Budget(2 * sum(map(math.prod, shapes)) + SPARE_NUMBERS):
            network = build(description)
    except (MemoryError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{path}: its description gives no network ({first_line(error)})"
        ) from None
    load_weights(path, network)
    return network


class _Budget(TorchFunctionMode):
    """Ends the building of a network before it allocates more than a number of elements."""

    FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self._left = numbers

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self.FACTORIES:
            size = kwargs["size"] if "size" in kwargs else args[0] if args else 0
            sides = size if isinstance(size, Iterable) else [s for s in args if isinstance(s, int)]
            self._left -= math.prod(sides)
            if self._left < 0:
                raise MemoryError("it is far larger than the weights in the file")
        return func(*args, **kwargs)


def load_weights(path: Path, module: torch.nn.Module) -> None:
    """Load weights into a network.

    Raises
    ------
    InputError
        If the file cannot be read, its tensors do not match those of the network, or a number in
        them is not finite.
    """
    try:
        module.load_state_dict(expand(safetensors.torch.load_file(path)))
    except (KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: weights of another network ({first_line(error)})") from None
    finite.check(str(path), module.state_dict())
