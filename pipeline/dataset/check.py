"""Checks of a dataset for errors and weaknesses before training."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from pipeline.artifacts.split import Photograph, Split
from pipeline.common.errors import InputError
from pipeline.dataset.index import DatasetParameters, choose_classes, concerns, read_listings
from pipeline.dataset.listing import Listed, Listing, map_images, photograph

# A class with fewer images is hard to learn; objects in smaller photographs have no shape.
FEW_IMAGES = 20
TINY_SIDE = 64
# Number of examples in a message.
_NAMED = 5


class Problem(NamedTuple):
    """A problem of a dataset.

    level : `wrong` stops a run, `weak` does not.
    message : one line.
    """

    level: Literal["wrong", "weak"]
    message: str


class Checked(NamedTuple):
    """The result of a check.

    problems : that were found.
    splits : index of the readable photographs per split; None if the tags cannot be read.
    """

    problems: list[Problem]
    splits: dict[str, Split] | None


def check(parameters: DatasetParameters, root: Path) -> Checked:
    """Check a dataset: read all tags and decode every photograph."""
    try:
        listings = read_listings(parameters, root)
        classes = choose_classes(parameters, listings)
    except InputError as error:
        return Checked([Problem("wrong", str(error))], None)
    problems = [Problem("weak", line) for line in _of_tags(listings["train"], classes)]
    if parameters.kind == "folder":
        problems += [Problem("weak", line) for line in _of_files(listings, root)]
    splits = {}
    for name, listing in listings.items():
        read = list(map_images(partial(_try, listing.root, classes), listing.images, name))
        problems += [Problem("wrong", fault) for fault in read if isinstance(fault, str)]
        good = tuple(found for found in read if isinstance(found, Photograph))
        splits[name] = Split(root=str(root), classes=classes, photographs=good)
    problems += [Problem("weak", line) for line in _of_photographs(splits)]
    return Checked(problems, splits)


def _try(root: Path, classes: tuple[str, ...], image: Listed) -> Photograph | str:
    try:
        return photograph(root, classes, image)
    except InputError as error:
        return str(error)


def _of_tags(train: Listing, classes: tuple[str, ...]) -> Iterator[str]:
    images = Counter(tag for image in train.images for tag in image.tags)
    for tag in sorted(set(images) - set(classes)):
        near = _nearest(tag, classes)
        guess = f"; nearest class: {near}" if near else ""
        yield f"tag {tag} ({images[tag]} images) is no class of dataset.classes{guess}"
    for name in classes:
        if images[name] < FEW_IMAGES:
            # A misspelled tag is rarer than the intended one.
            near = _nearest(name, [other for other in classes if images[other] > images[name]])
            guess = f"; is {near} meant?" if near else ""
            yield f"class {name}: {images[name]} training images are few{guess}"
    yield from _together(train, classes, images)
    without = sum(image.tags.isdisjoint(classes) for image in train.images)
    if without:
        yield f"{without} training images show no class: they teach only what is not there"


def _together(train: Listing, classes: tuple[str, ...], images: Mapping[str, int]) -> Iterator[str]:
    both = Counter(
        pair
        for image in train.images
        for pair in combinations(sorted(image.tags.intersection(classes)), 2)
    )
    for (one, other), count in sorted(both.items()):
        if count == images[one] == images[other]:
            yield f"classes {one} and {other} always come together: tags cannot tell them apart"
        elif count == images[one]:
            yield f"class {one} never comes without {other}: its peaks may be those of {other}"
        elif count == images[other]:
            yield f"class {other} never comes without {one}: its peaks may be those of {one}"


def _nearest(tag: str, names: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(tag.lower(), list(by_lower), n=1, cutoff=0.8)
    return by_lower[near[0]] if near else None


def _of_files(listings: Mapping[str, Listing], root: Path) -> Iterator[str]:
    """Find photographs of the folder that are in no row of the table."""
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items()}
    listed = {image.file for listing in listings.values() for image in listing.images}
    unlisted = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in suffixes and path.relative_to(root).as_posix() not in listed
    )
    if unlisted:
        yield f"{len(unlisted)} photographs are in neither list: {_some(unlisted)}"


def _of_photographs(splits: Mapping[str, Split]) -> Iterator[str]:
    yield from concerns(splits)
    every = [shown for split in splits.values() for shown in split.photographs]
    same = defaultdict(list)
    for shown in every:
        same[shown.sha256].append(shown.file)
    for files in same.values():
        if len(files) > 1:
            yield f"the same photograph, {len(files)} times: {_some(files)}"
    tiny = [shown.file for shown in every if min(shown.height, shown.width) < TINY_SIDE]
    if tiny:
        yield f"{len(tiny)} photographs are below {TINY_SIDE} pixels on a side: {_some(tiny)}"


def _some(files: Sequence[str]) -> str:
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return ", ".join(files[:_NAMED]) + more
