"""Atomic writes, and JSON files validated by pydantic models."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.common.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: to a temporary file, which is then renamed to `path`.

    Missing folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write `content` atomically as JSON (UTF-8, with a trailing newline)."""
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())


def read_model(model: type[Model], path: Path) -> Model:
    """Read a JSON file as a pydantic model.

    Raises
    ------
    InputError
        If the file is missing or does not match the model.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: missing; the stage that writes it has not run") from None
    except ValidationError as error:
        raise InputError(f"{path}: {first_error(error)}") from None


def first_error(error: ValidationError) -> str:
    """Format the first error of a validation as `location: message`."""
    first = error.errors()[0]
    return f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"
