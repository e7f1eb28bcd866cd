"""Proposals imported from JSON in COCO format, such as those of DeepMask, MCG, COB or SAM.

A file is a list of results, `{"image_id", "segmentation", "score"}`, or an object with
`annotations` of that form and `images` (`id`, `file_name`). Without `images`, `image_id` is the
id of a photograph in the split: its file name without the extension. With `images`, it refers to
the photograph with that `file_name`. `segmentation` is a run-length encoding, compressed or not,
or a list of polygons. Results are read one at a time and kept as compressed run-length encodings.
"""

import reprlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import ijson
import numpy as np

from pipeline.artifacts.proposals import Proposals
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import files, masks
from pipeline.common.errors import InputError
from pipeline.common.masks import Rle
from pipeline.common.segmentation import segmentation_rle

MAX_DEPTH = 16
MAX_TOKEN_BYTES = 16 * 2**20  # of a number or a text; no mask has as much
_CHUNK_BYTES = 2**20


def read_proposals(path: Path, split: Split, count: int) -> dict[str, Proposals]:
    """Read the proposals of a split: at most `count` per photograph, best first.

    Empty masks are left out. Scores outside of 0..1 are refused.

    Returns
    -------
    The proposals by the id of the photograph. Every photograph of the split has an entry.

    Raises
    ------
    InputError
        If the file is missing or has another format, if it refers to an image that is not in the
        split, or if a mask is invalid or has another size than its photograph.
    """
    found: dict[str, list[tuple[float, Rle]]] = {p.id: [] for p in split.photographs}
    try:
        lists = _lists(path)
        photographs = _photographs(path, lists, split)
        for number, result in enumerate(_results(path, lists)):
            photograph, score, rle = _read(result, photographs, f"{path}: result {number}")
            if masks.area([rle])[0]:
                found[photograph.id].append((score, rle))
    except (ijson.JSONError, ValueError, RecursionError) as error:  # ValueError: huge numbers
        raise InputError(f"{path}: not JSON ({' '.join(str(error).split())})") from None
    return {image: _best(scored, count) for image, scored in found.items()}


def _best(scored: list[tuple[float, Rle]], count: int) -> Proposals:
    scored = sorted(scored, key=lambda pair: -pair[0])[:count]
    score = np.array([score for score, _ in scored], np.float32)
    return Proposals([rle for _, rle in scored], score)


def _open(path: Path) -> BinaryIO:
    return files.open_file(path, "missing; the import needs train.json and val.json")


class _Chunks:
    """Reads a file for ijson, whose time grows with the square of the length of a token.

    `unparsed` is the number of bytes since the last token.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self.unparsed = 0

    def read(self, size: int) -> bytes:
        """Read the next bytes, or raise InputError if a token is too long."""
        if self.unparsed > MAX_TOKEN_BYTES:
            limit = f"{MAX_TOKEN_BYTES >> 20} MiB"
            raise InputError(f"{self._path}: a number or a text of more than {limit}")
        self.unparsed += size
        return self._file.read(size)


def _lists(path: Path) -> set[str]:
    """Return the keys of the lists in the object that a file holds, or '' for a list itself.

    Raises
    ------
    InputError
        If something in the file is nested more than `MAX_DEPTH` deep (ijson would take a time
        that grows with the square of the depth), if a number or a text is far too long, or if an
        object has a key twice.
    """
    found, key = set(), ""
    open_keys: list[set[str]] = []  # of each list and object that has not ended
    with _open(path) as file:
        chunks = _Chunks(path, file)
        for event, value in ijson.basic_parse(chunks, use_float=True, buf_size=_CHUNK_BYTES):
            chunks.unparsed = 0
            if event in ("start_map", "start_array"):
                if event == "start_array" and len(open_keys) == (1 if key else 0):
                    found.add(key)
                open_keys.append(set())
                if len(open_keys) > MAX_DEPTH:
                    raise InputError(f"{path}: nested more than {MAX_DEPTH} deep")
            elif event in ("end_map", "end_array"):
                open_keys.pop()
            elif event == "map_key":
                if value in open_keys[-1]:
                    raise InputError(f"{path}: key {value!r} occurs twice in an object")
                open_keys[-1].add(value)
                if len(open_keys) == 1:
                    key = value
    return found


def _results(path: Path, lists: set[str]) -> Iterator[Any]:
    if not lists & {"", "annotations"}:
        raise InputError(f"{path}: no list of results, and no object with a list of annotations")
    return _items(path, "item" if "" in lists else "annotations.item")


def _items(path: Path, prefix: str) -> Iterator[Any]:
    with _open(path) as file:
        yield from ijson.items(file, prefix, use_float=True, buf_size=_CHUNK_BYTES)


def _photographs(path: Path, lists: set[str], split: Split) -> dict[str, Photograph]:
    """Map each valid `image_id`, as a string, to its photograph."""
    by_id = {photograph.id: photograph for photograph in split.photographs}
    if "images" not in lists:
        return by_id
    by_file = {photograph.file: [photograph] for photograph in split.photographs}
    by_name: dict[str, list[Photograph]] = defaultdict(list)
    for photograph in split.photographs:
        by_name[PurePosixPath(photograph.file).name].append(photograph)
    by_number: dict[str, Photograph] = {}
    for image in _items(path, "images.item"):
        known = isinstance(image, dict)
        if not (known and isinstance(image.get("file_name"), str) and _is_id(image.get("id"))):
            raise InputError(f"{path}: images: each must have an id and a file_name")
        file, number = image["file_name"], str(image["id"])
        found = by_file.get(file) or by_name[PurePosixPath(file).name]
        if len(found) != 1:
            count = f"{len(found)} photographs" if found else "not a photograph"
            raise InputError(f"{path}: images: {file} is {count} of the split")
        if number in by_number:
            raise InputError(f"{path}: images: id {number} occurs twice")
        by_number[number] = found[0]
    return by_number or by_id


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _read(
    result: Any, photographs: dict[str, Photograph], where: str
) -> tuple[Photograph, float, Rle]:
    if not isinstance(result, dict):
        raise InputError(f"{where}: must be an object with image_id, segmentation and score")
    for key in ("image_id", "segmentation", "score"):
        if key not in result:
            raise InputError(f"{where}: no {key}")
    image, score = result["image_id"], result["score"]
    if not _is_id(image) or str(image) not in photographs:
        raise InputError(
            f"{where}: image_id {reprlib.repr(image)} is not a photograph of the split"
        )
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise InputError(f"{where}: score {reprlib.repr(score)} must be a number from 0 to 1")
    photograph = photographs[str(image)]
    height, width = photograph.height, photograph.width
    return photograph, float(score), segmentation_rle(result["segmentation"], height, width, where)
