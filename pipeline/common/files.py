"""Atomic writes, and JSON files validated by pydantic models."""

import contextlib
import json
import os
import stat
import unicodedata
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.common.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def open_file(path: Path, missing: str) -> BinaryIO:
    """Open a file that a user named: a regular one, neither a pipe nor a device.

    Parameters
    ----------
    missing : what is said of a file that does not exist.

    Raises
    ------
    InputError
        If it is missing, is not a regular file, or cannot be read.
    """
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    except FileNotFoundError:
        raise InputError(f"{path}: {missing}") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        raise InputError(f"{path}: cannot be read ({_reason(error)})") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path}: not a regular file")
    return file


def inside(root: Path, file: str, missing: str = "no such image") -> Path:
    """Return the path of a file that a dataset names. Its name may be in Unicode form NFC or NFD.

    Raises
    ------
    InputError
        If the file does not exist, or is outside the folder (absolute path, `..` or a link).
    """
    if "\0" in file or "\\" in file or is_outside(file):
        raise InputError(f"{file!r}: not a path inside {root}, such as name.jpg or a/b/name.jpg")
    try:
        path = next(path for path in _spellings(root, file) if _is_file(path))
    except (OSError, StopIteration):
        raise InputError(f"{root / file}: {missing}") from None
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{path}: a link to a file outside {root}")
    return path


def is_outside(file: str) -> bool:
    """Whether a path is absolute or contains `..`."""
    path = PurePosixPath(file)
    return path.is_absolute() or ".." in path.parts or not path.name


def _is_file(path: Path) -> bool:
    """Whether there is anything but a folder; `open_file` refuses pipes and devices."""
    return path.exists() and not path.is_dir()


def _spellings(root: Path, file: str) -> Iterable[Path]:
    """Yield the path as given, and in both Unicode forms."""
    yield root / file
    yield root / unicodedata.normalize("NFC", file)
    yield root / unicodedata.normalize("NFD", file)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; of a pipe, do not wait for its other end."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_bytes(path: Path, max_bytes: int, missing: str) -> bytes:
    """Read a file that a user named, of at most `max_bytes`; see `open_file`."""
    with open_file(path, missing) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise InputError(f"{path}: more than {_size(max_bytes)}, the most allowed")
    return content


def read_text(path: Path, max_bytes: int, missing: str) -> str:
    """Read a text file in UTF-8, with or without a byte order mark, as `read_bytes` does."""
    try:
        return read_bytes(path, max_bytes, missing).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8") from None


def check_keys_once(where: str, content: str | bytes) -> None:
    """Raise InputError, which begins with `where`, if an object in JSON has a key twice.

    Readers take the last one. What is not JSON at all is left to them to refuse.
    """

    def once(pairs: list[tuple[str, Any]]) -> None:
        # Nothing is returned, so nothing is kept of a large file.
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(
                f"{where}: key {twice!r} occurs {keys.count(twice)} times in an object"
            )

    with contextlib.suppress(ValueError, RecursionError):
        json.loads(content, object_pairs_hook=once)


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet would take a cell of a CSV file for a formula."""
    return cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: to a temporary file, which is then renamed to `path`.

    Missing folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not longer than the name of the file, which may be as long as the file system takes.
    unfinished = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write `content` atomically as JSON (UTF-8, with a trailing newline).

    Bytes of file names that are no UTF-8 are written as escapes, from which Python reads the same.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode("utf-8", "backslashreplace"))


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
