"""Writing a file so that it is there whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.common.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside `path`, then rename over it; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write JSON (UTF-8, one trailing newline)."""
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())


def read_model(model: type[Model], path: Path) -> Model:
    """Read a JSON file as a pydantic model.

    Raises
    ------
    InputError
        If the file is missing or not of the model's form.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: missing; the stage that writes it has not run") from None
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}") from None


def first_fault(error: ValidationError) -> str:
    """Say where the first fault of a JSON file is, and what it is."""
    fault = error.errors()[0]
    return f"{'.'.join(str(step) for step in fault['loc'])}: {fault['msg']}"
