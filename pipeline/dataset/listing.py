"""Lists of images, the common form of all dataset formats, and their decoding."""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from PIL import Image
from pydantic import ValidationError

from pipeline.artifacts.split import Photograph, Split
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.common.files import first_error, inside
from pipeline.common.images import FORMATS, read_image
from pipeline.common.progress import track
from pipeline.execution.pool import ordered_map

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Listed:
    """An image of a list.

    id : name in the dataset.
    file : path relative to the folder of photographs.
    tags : names of classes.
    """

    id: str
    file: str
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of images.

    root : folder of the photographs.
    images : in the order of the list.
    """

    root: Path
    images: tuple[Listed, ...]

    def tags(self) -> list[str]:
        """Return all tags of the images, in alphabetical order."""
        return sorted(frozenset[str]().union(*(image.tags for image in self.images)))


def image_files(root: Path) -> list[str]:
    """List the photographs in a folder and its subfolders, by their suffixes, in order."""
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in suffixes and path.is_file()
    )


def file_key(file: str) -> str:
    """Return what `a.jpg`, `./a.jpg` and other spellings of the same file have in common."""
    return unicodedata.normalize("NFC", PurePosixPath(file).as_posix())


def index(listing: Listing, classes: tuple[str, ...], name: str, unfinished: Path) -> Split:
    """Decode each image of a list and index it; tags that are not in `classes` are dropped.

    Parameters
    ----------
    name : name of the list, for the progress bar.
    unfinished : file of the results so far, from which an interrupted call resumes.

    Raises
    ------
    InputError
        If a photograph is missing or broken, or is outside the folder.
    """
    known = _read_finished(unfinished)
    remaining = listing.images[len(known) :]
    with unfinished.open("a") as file:
        for found in map_images(partial(photograph, listing.root, classes), remaining, name):
            file.write(f"{found.model_dump_json()}\n")
            file.flush()
            known.append(found)
    return Split(root=str(listing.root), classes=classes, photographs=tuple(known))


def _read_finished(file: Path) -> list[Photograph]:
    """Read a file with one photograph per line; an incomplete last line is cut off.

    Raises
    ------
    InputError
        If it is damaged.
    """
    if not file.exists():
        return []
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    os.truncate(file, len(whole))
    try:
        return [Photograph.model_validate_json(line) for line in whole.splitlines()]
    except ValidationError as error:
        raise InputError(
            f"{file}: damaged ({first_error(error)}); remove it and run again"
        ) from None


def map_images(
    function: Callable[[Listed], Result], images: Sequence[Listed], name: str
) -> Iterable[Result]:
    """Apply a function to every image in worker processes, and show the progress."""
    results = ordered_map(function, images, runtime.workers())
    return track(results, len(images), f"photographs of {name}")


def photograph(root: Path, classes: tuple[str, ...], image: Listed) -> Photograph:
    """Decode an image and return its size, digest and tags. Raises InputError if it is broken."""
    path = inside(root, image.file)
    height, width, _ = read_image(path).shape
    return Photograph(
        id=image.id,
        file=path.relative_to(root).as_posix(),
        height=height,
        width=width,
        sha256=_sha256(path),
        tags=tuple(name for name in classes if name in image.tags),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
