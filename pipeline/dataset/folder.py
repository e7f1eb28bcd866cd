"""A folder of photographs and a table of their tags.

The table is a CSV file (comma, semicolon or tabulator; UTF-8) in one of three shapes, told
apart by its header:

- `image,tags`: the tags of an image in one cell, separated by `;`
- `image,tag`: a row for every pair of image and tag
- `image,cat,dog,...`: a column for every tag, 1 where the image shows it and else 0

A column `split`, in any of them, names the list that an image belongs to.
"""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.common.errors import InputError
from pipeline.dataset.listing import Listed

DELIMITERS = ",;\t"
IMAGE, TAGS, TAG, SPLIT = "image", "tags", "tag", "split"


class Row(NamedTuple):
    """A row of the table.

    where : file and line, for error messages.
    image : path of the image.
    tags : of the image.
    split : name of the list; empty if there is none.
    """

    where: str
    image: str
    tags: frozenset[str]
    split: str


def read_table(path: Path) -> dict[str, list[Listed]]:
    """Read the images of every list; images without a list are under ''.

    Raises
    ------
    InputError
        If the file is missing, is not CSV in one of the three forms, or contradicts itself.
    """
    header, records = _records(path)
    rows = [_row(path, header, line, cells) for line, cells in records]
    if not rows:
        raise InputError(f"{path}: no image; there is nothing below the header")
    images: dict[str, Row] = {}
    for row in rows:
        met = images.get(row.image)
        if met is None:
            images[row.image] = row
        elif TAG not in header:
            raise InputError(f"{row.where}: names {row.image} again, as {met.where} does")
        elif met.split != row.split:
            raise InputError(f"{row.where}: {row.image} is in another split at {met.where}")
        else:
            images[row.image] = met._replace(tags=met.tags | row.tags)
    lists: dict[str, list[Listed]] = {}
    for row in images.values():
        lists.setdefault(row.split, []).append(Listed(row.image, row.image, row.tags))
    return lists


def _records(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header, and the rows with their line numbers, without blank rows."""
    text = _text(path)
    first = text.split("\n", 1)[0]
    headers = {mark: _header(next(csv.reader([first], delimiter=mark))) for mark in DELIMITERS}
    delimiter = next((mark for mark, names in headers.items() if IMAGE in names), None)
    if delimiter is None:
        raise InputError(
            f"{path}: line 1: no column {IMAGE!r}; a header is needed: image,tags or image,tag "
            "or image and a column of 0 and 1 for every class"
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
        raise InputError(f"{path}: after line {line}: not CSV ({error})") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a table of tags is needed") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; save it as 'CSV UTF-8'") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _header(cells: Iterable[str]) -> list[str]:
    names = [_clean(cell) for cell in cells]
    own = {IMAGE, TAGS, TAG, SPLIT}
    return [name.lower() if name.lower() in own else name for name in names]


def _check_header(path: Path, header: list[str]) -> None:
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path}: line 1: two columns {twice!r}")
    columns = set(header) - {IMAGE, SPLIT}
    if "" in columns:
        raise InputError(f"{path}: line 1: a column without a name")
    if not columns:
        raise InputError(f"{path}: line 1: no tags; a column tags, tag or of a class is needed")
    if columns & {TAGS, TAG} and len(columns) > 1:
        raise InputError(
            f"{path}: line 1: {', '.join(sorted(columns))}: beside {IMAGE} and {SPLIT} there is "
            "either tags, or tag, or a column for every class"
        )


def _row(path: Path, header: list[str], line: int, cells: list[str]) -> Row:
    where = f"{path}: line {line}"
    if len(cells) != len(header):
        raise InputError(f"{where}: {len(cells)} cells, the header has {len(header)}")
    values = dict(zip(header, cells, strict=True))
    image = values.pop(IMAGE).strip()
    split = _clean(values.pop(SPLIT, ""))
    if not image:
        raise InputError(f"{where}: no image")
    return Row(where, image, _tags(where, values), split)


def _tags(where: str, values: Mapping[str, str]) -> frozenset[str]:
    if TAGS in values:
        return frozenset(filter(None, map(_clean, values[TAGS].split(";"))))
    if TAG in values:
        return frozenset(filter(None, [_clean(values[TAG])]))
    for name, value in values.items():
        if value.strip() not in ("0", "1"):
            raise InputError(f"{where}: {name} = {value!r}: 0 or 1 is needed")
    return frozenset(name for name, value in values.items() if value.strip() == "1")


def _clean(text: str) -> str:
    """Strip whitespace and normalize to Unicode NFC, so that equal names compare equal."""
    return unicodedata.normalize("NFC", text).strip()
