"""Checksums with which a store knows whether it is whole.

The attributes of a group have a checksum of their own. Those of a part also list the size and the
CRC-32 of each of its files. Columns that are read row by row are too large for that: zarr compares
a CRC-32C of every chunk that it reads.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.common.errors import InputError, first_line

FILES = "files"
CHECKSUM = "checksum"


def sealed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with their checksum."""
    return {**attributes, CHECKSUM: _of_json(attributes)}


def opened_seal(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes without their checksum, or raise ValueError if it is not theirs."""
    content = {name: value for name, value in attributes.items() if name != CHECKSUM}
    if CHECKSUM not in attributes:
        raise ValueError("it was not finished")
    if attributes[CHECKSUM] != _of_json(content):
        raise ValueError("its checksum differs")
    return content


def _of_json(attributes: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(attributes, sort_keys=True).encode())


def file_checksums(folder: Path) -> dict[str, list[int]]:
    """Return size and CRC-32 of all files below a folder, except the zarr.json of its group."""
    return {name: [file.stat().st_size, _of_file(file)] for name, file in _files(folder)}


def check_files(
    folder: Path, checksums: Mapping[str, tuple[int, int]], by_chunk: Callable[[str], bool]
) -> None:
    """Compare the files below a folder with their sizes and checksums.

    Parameters
    ----------
    by_chunk : whether only the size of a file is compared, because its chunks have checksums.

    Raises
    ------
    DamagedFileError
        About the first file that is missing, or has other content.
    """
    found = dict(_files(folder))
    for name in sorted({*checksums, *found}):
        with naming(folder / name):
            if name not in found:
                raise ValueError("missing")
            if name not in checksums:
                raise ValueError("not a file of this store")
            size, checksum = checksums[name]
            if found[name].stat().st_size != size:
                raise ValueError(f"{found[name].stat().st_size} bytes, not {size}")
            if not by_chunk(name) and _of_file(found[name]) != checksum:
                raise ValueError("its checksum differs")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of the columns, sorted, without hidden ones, which file managers leave."""
    for file in sorted(folder.glob("*/[!.]*")):  # the bytes must not depend on the file system
        yield file.relative_to(folder).as_posix(), file


def _of_file(file: Path) -> int:
    return zlib.crc32(file.read_bytes())


class DamagedFileError(Exception):
    """A file of a store is missing, or has other content than was written."""


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Say of which file the errors in the body are: zarr raises various ones for damaged files."""
    try:
        yield
    except (DamagedFileError, InputError):
        raise
    except Exception as error:
        reason = first_line(error) if file.exists() else "missing"
        raise DamagedFileError(f"{file}: damaged ({reason})") from None
