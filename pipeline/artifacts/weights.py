"""Weights of a network with the description it is rebuilt from, in safetensors (no pickle)."""

from pathlib import Path
from typing import TypeVar

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ValidationError

from pipeline.common import files
from pipeline.common.errors import InputError

Description = TypeVar("Description", bound=BaseModel)


def write_weights(path: Path, module: torch.nn.Module, description: BaseModel) -> None:
    """Write a network's state and the `description` that its constructor takes."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    # One key: safetensors keeps no order among several, and so no bytes.
    metadata = {"description": description.model_dump_json()}
    files.write_bytes(path, safetensors.torch.save(state, metadata))


def read_description(path: Path, model: type[Description]) -> Description:
    """The description that `write_weights` left in a file.

    Raises
    ------
    InputError
        If the file is missing, no safetensors file, or describes another kind of network.
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
    """Load a file's tensors into a network of the same form, or raise InputError."""
    try:
        safetensors.torch.load_model(module, path)
    except (RuntimeError, safetensors.SafetensorError) as error:
        first_line = str(error).splitlines()[0]
        raise InputError(f"{path}: weights of another network ({first_line})") from None
