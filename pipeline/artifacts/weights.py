"""Weights of networks in safetensors files, which also hold the description of the network."""

from pathlib import Path
from typing import TypeVar

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ValidationError

from pipeline.artifacts.compact import expand
from pipeline.common import files
from pipeline.common.errors import InputError

Description = TypeVar("Description", bound=BaseModel)


def write_weights(path: Path, module: torch.nn.Module, description: BaseModel) -> None:
    """Write the state dict of a network and the `description` from which it can be rebuilt."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    # A single key: safetensors does not preserve the order of several.
    metadata = {"description": description.model_dump_json()}
    files.write_bytes(path, safetensors.torch.save(state, metadata))


def read_description(path: Path, model: type[Description]) -> Description:
    """Read the description of a network from a file of `write_weights`.

    Raises
    ------
    InputError
        If the file is missing, is not a safetensors file, or holds another kind of network.
    """
    try:
        with safetensors.safe_open(path, "pt") as weights:
            metadata = weights.metadata() or {}
        return model.model_validate_json(metadata.get("description", ""))
    except FileNotFoundError:
        raise InputError(f"{path}: missing; the stage that writes it has not run") from None
    except (safetensors.SafetensorError, ValidationError):
        raise InputError(f"{path}: not the weights of a {model.__name__}") from None


def load_weights(path: Path, module: torch.nn.Module) -> None:
    """Load weights into a network.

    Raises
    ------
    InputError
        If the file cannot be read, or its tensors do not match those of the network.
    """
    try:
        module.load_state_dict(expand(safetensors.torch.load_file(path)))
    except (KeyError, RuntimeError, safetensors.SafetensorError) as error:
        first_line = str(error).splitlines()[0]
        raise InputError(f"{path}: weights of another network ({first_line})") from None
