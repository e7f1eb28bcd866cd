"""What every form of dataset is brought to: a list of images, not one of them opened yet."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pipeline.artifacts.split import Photograph, Split
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.common.images import read_image
from pipeline.common.progress import track
from pipeline.execution.pool import ordered_map

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Listed:
    """An image: its name in the dataset, its file in the folder of photographs, its tags."""

    id: str
    file: str
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of one list, and `root`, the folder of photographs that their files are in."""

    root: Path
    images: tuple[Listed, ...]

    def tags(self) -> list[str]:
        """All tags of the images, in alphabetical order."""
        return sorted(frozenset[str]().union(*(image.tags for image in self.images)))


def index(listing: Listing, classes: tuple[str, ...], name: str, unfinished: Path) -> Split:
    """Decode every image of the list `name` once; of its tags keep the `classes`.

    What is known is noted in the file `unfinished`, from which a call after a kill goes on.

    Raises
    ------
    InputError
        If a photograph is missing or broken, or lies outside of the folder.
    """
    known = _noted(unfinished)
    remaining = listing.images[len(known) :]
    with unfinished.open("a") as notes:
        for found in map_images(partial(photograph, listing.root, classes), remaining, name):
            notes.write(f"{found.model_dump_json()}\n")
            notes.flush()
            known.append(found)
    return Split(root=str(listing.root), classes=classes, photographs=tuple(known))


def _noted(file: Path) -> list[Photograph]:
    """Read a file of one photograph a line; of its last line there may be a part, which goes."""
    if not file.exists():
        return []
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    os.truncate(file, len(whole))
    return [Photograph.model_validate_json(line) for line in whole.splitlines()]


def map_images(
    function: Callable[[Listed], Result], images: Sequence[Listed], name: str
) -> Iterable[Result]:
    """Call a function with every image, in worker processes, and show the progress."""
    results = ordered_map(function, images, runtime.workers())
    return track(results, len(images), f"photographs of {name}")


def photograph(root: Path, classes: tuple[str, ...], image: Listed) -> Photograph:
    """Describe an image by its decoded size and the digest of its bytes, or raise InputError."""
    path = inside(root, image.file)
    height, width, _ = read_image(path).shape
    return Photograph(
        id=image.id,
        file=path.relative_to(root).as_posix(),
        height=height,
        width=width,
        sha256=sha256(path.read_bytes()).hexdigest(),
        tags=tuple(name for name in classes if name in image.tags),
    )


def inside(root: Path, file: str) -> Path:
    """The path of a file that a list names, however the name is composed (Unicode NFC or NFD).

    Raises
    ------
    InputError
        If there is no such file, or it is not in the folder: by an absolute path, by `..`, or
        by a link.
    """
    if "\0" in file or "\\" in file or is_outside(file):
        raise InputError(f"{file!r}: not a path in {root}; allowed are names and a/b/name.jpg")
    try:
        path = next(path for path in _spellings(root, file) if path.is_file())
    except (OSError, StopIteration):
        raise InputError(f"{root / file}: no such image") from None
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{path}: a link that leaves {root}")
    return path


def is_outside(file: str) -> bool:
    """Whether a path is absolute, or goes up."""
    path = PurePosixPath(file)
    return path.is_absolute() or ".." in path.parts or not path.name


def _spellings(root: Path, file: str) -> Iterable[Path]:
    """A name as it is given, and as other systems would compose its letters and accents."""
    yield root / file
    yield root / unicodedata.normalize("NFC", file)
    yield root / unicodedata.normalize("NFD", file)
