"""A folder of photographs and a table of their tags.

The table is a CSV file in UTF-8, separated by commas, semicolons or tabs. Its header tells which
of three forms it has:

- `image,tags`: one row per image, with its tags in one cell, separated by `;`
- `image,tag`: one row per pair of image and tag
- `image,cat,dog,...`: one column per tag, 1 if the image shows it and 0 otherwise

In each form, an optional column `split` names the list that an image belongs to. The columns may
also have the names of Hugging Face's `metadata.csv`: `file_name`, `labels` and `label`.

A file `.jsonl`, such as Hugging Face's `metadata.jsonl`, is such a table, too: each line is an
object whose keys are the columns. `tags` is a list of names there.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.common import files
from pipeline.common.errors import InputError
from pipeline.dataset.listing import Listed, file_key

MAX_BYTES = 512 * 2**20
DELIMITERS = ",;\t"
IMAGE, TAGS, TAG, SPLIT = "image", "tags", "tag", "split"
# The names of Hugging Face's metadata files.
ALIASES = {"file_name": IMAGE, "labels": TAGS, "label": TAG}


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
        If the file is missing, is not a table in one of the three forms, or is inconsistent.
    """
    header, rows = _json_rows(path) if path.suffix.lower() == ".jsonl" else _csv_rows(path)
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


def _csv_rows(path: Path) -> tuple[list[str], list[Row]]:
    header, records = _records(path)
    rows = [_row(path, header, line, cells) for line, cells in records]
    if not rows:
        raise InputError(f"{path}: no images below the header")
    return header, rows


def _json_rows(path: Path) -> tuple[list[str], list[Row]]:
    """Return the keys, which all lines share, and the rows."""
    entries = [_json_entry(path, *numbered) for numbered in enumerate(_text(path).split("\n"), 1)]
    objects = [entry for entry in entries if entry]
    if not objects:
        raise InputError(f"{path}: no images")
    header = list(objects[0][1])
    if IMAGE not in header:
        raise InputError(f"{objects[0][0]}: no key 'file_name' or {IMAGE!r}")
    _check_header(objects[0][0], header)
    return header, [_json_row(where, header, entry) for where, entry in objects]


def _json_entry(path: Path, line: int, text: str) -> tuple[str, dict[str, Any]] | None:
    """Read a line as an object; return None if it is blank."""
    if not text.strip():
        return None
    where = f"{path}: line {line}"
    try:
        entry = json.loads(text)
        json.dumps(entry, ensure_ascii=False).encode()  # escapes of half a character are no text
    except (ValueError, RecursionError) as error:  # ValueError: also huge numbers
        raise InputError(f"{where}: not JSON ({getattr(error, 'msg', error)})") from None
    if not isinstance(entry, dict):
        raise InputError(f"{where}: must be an object with file_name and tags")
    files.check_keys_once(where, text)
    names = _header(entry)
    if len(set(names)) < len(names):
        raise InputError(f"{where}: two keys have the same meaning: {', '.join(entry)}")
    return where, dict(zip(names, entry.values(), strict=True))


def _json_row(where: str, header: list[str], entry: dict[str, Any]) -> Row:
    if entry.keys() != set(header):
        raise InputError(f"{where}: other keys than in the first line, {', '.join(header)}")
    image, split = entry.pop(IMAGE), entry.pop(SPLIT, "")
    if not isinstance(image, str) or not image.strip():
        raise InputError(f"{where}: the name of the image is missing")
    if not isinstance(split, str):
        raise InputError(f"{where}: {SPLIT} must be a name")
    return Row(where, image.strip(), _json_tags(where, entry), _clean(split))


def _json_tags(where: str, entry: Mapping[str, Any]) -> frozenset[str]:
    """Read the tags of a line: a list of names, a name, or 0 and 1 for each class."""
    if TAGS in entry or TAG in entry:
        ((key, value),) = entry.items()
        names = [] if value is None else value if key == TAGS else [value]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            kind = "a list of names" if key == TAGS else "a name"
            raise InputError(f"{where}: {key} must be {kind}")
        return frozenset(filter(None, map(_clean, names)))
    for name, value in entry.items():
        if value not in (0, 1):
            raise InputError(f"{where}: {name} must be 0 or 1")
    return frozenset(name for name, value in entry.items() if value)


def _records(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header, and the rows with their line numbers, without blank rows."""
    text = _text(path)
    first = text.split("\n", 1)[0]
    if len(first) > csv.field_size_limit():
        raise InputError(f"{path}: line 1: {len(first)} characters; a header is shorter")
    try:
        headers = {mark: _header(next(csv.reader([first], delimiter=mark))) for mark in DELIMITERS}
    except csv.Error as error:
        raise InputError(f"{path}: line 1: not CSV ({error})") from None
    delimiter = next((mark for mark, names in headers.items() if IMAGE in names), None)
    if delimiter is None:
        raise InputError(
            f"{path}: line 1: no column {IMAGE!r} or 'file_name'; the header must be image,tags or "
            "image,tag, or image and one column per class"
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records = _numbered(path, reader)
    _, cells = next(records)
    header = _header(cells)
    _check_header(f"{path}: line 1", header)
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
    known = {name: name for name in (IMAGE, TAGS, TAG, SPLIT)} | ALIASES
    return [known.get(name.lower(), name) for name in names]


def _check_header(where: str, header: list[str]) -> None:
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{where}: column {twice!r} occurs twice")
    columns = set(header) - {IMAGE, SPLIT}
    if "" in columns:
        raise InputError(f"{where}: a column has no name")
    if not columns:
        raise InputError(f"{where}: no tags; add a column tags or tag, or one per class")
    if columns & {TAGS, TAG} and len(columns) > 1:
        raise InputError(
            f"{where}: {', '.join(sorted(columns))}: besides {IMAGE} and {SPLIT}, the table "
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
