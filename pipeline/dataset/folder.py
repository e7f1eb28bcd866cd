"""A folder of photographs and a table of their tags.

The table is a CSV file in UTF-8, separated by commas, semicolons or tabs. Its header tells which
of three forms it has:

- `image,tags`: one row per image, with its tags in one cell, separated by `;`
- `image,tag`: one row per pair of image and tag
- `image,cat,dog,...`: one column per tag, 1 if the image shows it and 0 otherwise

In each form, an optional column `split` names the list that an image belongs to.
"""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.common import files
from pipeline.common.errors import InputError
from pipeline.dataset.listing import Listed, file_key

MAX_BYTES = 512 * 2**20
DELIMITERS = ",;\t"
IMAGE, TAGS, TAG, SPLIT = "image", "tags", "tag", "split"


class Row(NamedTuple):
    """A row of the table.

    where : file and line, for messages.
    image : path of the image.
    tags : names of classes.
    split : name of the list, or '' without one.
    """

    where: str
    image: str
    tags: frozenset[str]
    split: str


def read_table(path: Path) -> dict[str, list[Listed]]:
    """Read the images of each list by its name; images without a list are under ''.

    Raises
    ------
    InputError
        If the file is missing, is not CSV in one of the three forms, or is inconsistent.
    """
    header, records = _records(path)
    rows = [_row(path, header, line, cells) for line, cells in records]
    if not rows:
        raise InputError(f"{path}: no images below the header")
    images: dict[str, Row] = {}
    for row in rows:
        same = file_key(row.image)
        earlier = images.get(same)
        if earlier is None:
            images[same] = row
        elif TAG not in header:
            raise InputError(f"{row.where}: {row.image} is listed again, first at {earlier.where}")
        elif earlier.split != row.split:
            raise InputError(f"{row.where}: {row.image} has another split at {earlier.where}")
        else:
            images[same] = earlier._replace(tags=earlier.tags | row.tags)
    lists: dict[str, list[Listed]] = {}
    for row in images.values():
        lists.setdefault(row.split, []).append(Listed(row.image, row.image, row.tags))
    return lists


def _records(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header, and the rows with their line numbers, without blank rows."""
    text = _text(path)
    first = text.split("\n", 1)[0]
    if len(first) > csv.field_size_limit():
        raise InputError(f"{path}: line 1: {len(first)} characters; a header is shorter")
    headers = {mark: _header(next(csv.reader([first], delimiter=mark))) for mark in DELIMITERS}
    delimiter = next((mark for mark, names in headers.items() if IMAGE in names), None)
    if delimiter is None:
        raise InputError(
            f"{path}: line 1: no column {IMAGE!r}; the header must be image,tags or image,tag, "
            "or image and one column per class"
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records = _numbered(path, reader)
    _, cells = next(records)
    header = _header(cells)
    _check_header(path, header)
    return header, records


def _numbered(path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    line = 0
    try:
        for cells in reader:
            line = reader.line_num  # type: ignore[attr-defined]
            if any(cell.strip() for cell in cells):
                yield line, cells
    except csv.Error as error:
        raise InputError(f"{path}: not CSV after line {line} ({error})") from None


def _text(path: Path) -> str:
    text = files.read_text(path, MAX_BYTES, "no such file; expected a table of tags")
    return text.replace("\r\n", "\n")


def _header(cells: Iterable[str]) -> list[str]:
    names = [_clean(cell) for cell in cells]
    known = {IMAGE, TAGS, TAG, SPLIT}
    return [name.lower() if name.lower() in known else name for name in names]


def _check_header(path: Path, header: list[str]) -> None:
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path}: line 1: column {twice!r} occurs twice")
    columns = set(header) - {IMAGE, SPLIT}
    if "" in columns:
        raise InputError(f"{path}: line 1: a column has no name")
    if not columns:
        raise InputError(f"{path}: line 1: no tags; add a column tags or tag, or one per class")
    if columns & {TAGS, TAG} and len(columns) > 1:
        raise InputError(
            f"{path}: line 1: {', '.join(sorted(columns))}: besides {IMAGE} and {SPLIT}, the table "
            "has either tags, or tag, or one column per class"
        )


def _row(path: Path, header: list[str], line: int, cells: list[str]) -> Row:
    where = f"{path}: line {line}"
    if len(cells) != len(header):
        raise InputError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
    values = dict(zip(header, cells, strict=True))
    image = values.pop(IMAGE).strip()
    split = _clean(values.pop(SPLIT, ""))
    if not image:
        raise InputError(f"{where}: the image is missing")
    return Row(where, image, _tags(where, values), split)


def _tags(where: str, values: Mapping[str, str]) -> frozenset[str]:
    if TAGS in values:
        return frozenset(filter(None, map(_clean, values[TAGS].split(";"))))
    if TAG in values:
        return frozenset(filter(None, [_clean(values[TAG])]))
    for name, value in values.items():
        if value.strip() not in ("0", "1"):
            raise InputError(f"{where}: {name} is {value!r}, but must be 0 or 1")
    return frozenset(name for name, value in values.items() if value.strip() == "1")


def _clean(text: str) -> str:
    """Strip whitespace and normalize to Unicode NFC, so that equal names compare equal."""
    return unicodedata.normalize("NFC", text).strip()
