"""Annotation files in COCO's format: one reader for photographs to learn from and for masks."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from pipeline.common import files
from pipeline.common.errors import InputError
from pipeline.common.images import check_size

# COCO's own largest file has 0.5 GiB.
MAX_BYTES = 2 * 2**30

Number = Annotated[int, Strict()]
Id = Number | str
Side = Annotated[int, Strict(), Field(gt=0, lt=2**31)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)


class Category(_Entry):
    """A category: its id and its name."""

    id: Number
    name: Annotated[str, Field(min_length=1)]


class Image(_Entry):
    """An image: its id, the name of its file, and its size in pixels."""

    id: Id
    file_name: Annotated[str, Field(min_length=1)]
    height: Side
    width: Side


class Annotation(_Entry):
    """An object. Its segmentation is read by `segmentation_rle`; without one it is empty."""

    id: Id
    image_id: Id
    category_id: Number
    segmentation: list[Any] | dict[str, Any] = Field(default_factory=list)
    iscrowd: bool = False


class Document(_Entry):
    """A file of annotations; every id is there once."""

    images: tuple[Image, ...]
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...] = ()


def read_document(path: Path, missing: str) -> Document:
    """Read a file of annotations.

    Parameters
    ----------
    missing : what is said of a file that does not exist.

    Raises
    ------
    InputError
        If the file is missing or not in COCO's format, if an id, a file name, or a key of an
        object occurs twice, or if an image has more than `max_pixels()` pixels.
    """
    content = files.read_bytes(path, MAX_BYTES, missing)
    try:
        document = Document.model_validate_json(content)
    except ValidationError as error:
        kind = "JSON" if error.errors()[0]["type"] == "json_invalid" else "COCO annotations"
        raise InputError(f"{path}: not {kind}: {files.first_error(error)}") from None
    files.check_keys_once(str(path), content)
    entries: dict[str, Iterable[Category | Image | Annotation]] = vars(document)
    for name, of_kind in entries.items():
        _check_once(f"{path}: {name}: id", (entry.id for entry in of_kind))
    _check_once(f"{path}: images: file_name", (image.file_name for image in document.images))
    for image in document.images:
        check_size(f"{path}: image {image.id}", image.width, image.height)
    return document


def _check_once(what: str, values: Iterable[Id]) -> None:
    value, count = next(iter(Counter(values).most_common(1)), ("", 1))
    if count > 1:
        raise InputError(f"{what} {value} occurs {count} times")
