"""Checks of a dataset before training."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.artifacts.split import Photograph, Split
from pipeline.common.errors import InputError
from pipeline.dataset.index import DatasetParameters, choose_classes, concerns, read_listings
from pipeline.dataset.listing import Listed, Listing, image_files, map_images, photograph

# Classes with fewer training images, and photographs with a shorter side, are reported.
FEW_IMAGES = 20
TINY_SIDE = 64
# Number of files that a message lists.
_MAX_LISTED = 5


class Problem(NamedTuple):
    """A problem of a dataset.

    level : an `error` stops a run, a `warning` does not.
    message : one line.
    """

    level: Literal["error", "warning"]
    message: str


class Checked(NamedTuple):
    """The result of a check.

    problems : the problems found.
    splits : the readable photographs of each split; None if the tags cannot be read.
    """

    problems: list[Problem]
    splits: dict[str, Split] | None


def check(parameters: DatasetParameters, root: Path) -> Checked:
    """Check a dataset: read all tags and decode every photograph."""
    try:
        listings = read_listings(parameters, root)
        classes = choose_classes(parameters, listings)
    except InputError as error:
        return Checked([Problem("error", str(error))], None)
    problems = [Problem("warning", line) for line in _tag_warnings(listings["train"], classes)]
    if parameters.kind == "folder":
        problems += [Problem("warning", line) for line in _unlisted_files(listings, root)]
    splits = {}
    for name, listing in listings.items():
        read = list(map_images(partial(_read, listing.root, classes), listing.images, name))
        problems += [Problem("error", message) for message in read if isinstance(message, str)]
        readable = tuple(found for found in read if isinstance(found, Photograph))
        splits[name] = Split(root=str(root), classes=classes, photographs=readable)
    problems += [Problem("warning", line) for line in _photograph_warnings(splits)]
    return Checked(problems, splits)


def _read(root: Path, classes: tuple[str, ...], image: Listed) -> Photograph | str:
    try:
        return photograph(root, classes, image)
    except InputError as error:
        return str(error)


def _tag_warnings(train: Listing, classes: tuple[str, ...]) -> Iterator[str]:
    images = Counter(tag for image in train.images for tag in image.tags)
    for tag in sorted(set(images) - set(classes)):
        near = _nearest(tag, classes)
        guess = f"; nearest class: {near}" if near else ""
        yield f"tag {tag} (images: {images[tag]}) is not in dataset.classes{guess}"
    for name in classes:
        if images[name] < FEW_IMAGES:
            # A misspelled tag is rarer than the intended one.
            near = _nearest(name, [other for other in classes if images[other] > images[name]])
            guess = f"; did you mean {near}?" if near else ""
            yield f"class {name}: few training images ({images[name]}){guess}"
    yield from _paired_classes(train, classes, images)
    without = sum(image.tags.isdisjoint(classes) for image in train.images)
    if without:
        yield f"training images without a class: {without}; they serve as negative examples only"


def _paired_classes(
    train: Listing, classes: tuple[str, ...], images: Mapping[str, int]
) -> Iterator[str]:
    both = Counter(
        pair
        for image in train.images
        for pair in combinations(sorted(image.tags.intersection(classes)), 2)
    )
    for (one, other), count in sorted(both.items()):
        if count == images[one] == images[other]:
            yield f"classes {one} and {other} always occur together: tags cannot tell them apart"
        elif count == images[one]:
            yield f"class {one} never occurs without {other}: its peaks may lie on {other}"
        elif count == images[other]:
            yield f"class {other} never occurs without {one}: its peaks may lie on {one}"


def _nearest(tag: str, names: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(tag.lower(), list(by_lower), n=1, cutoff=0.8)
    return by_lower[near[0]] if near else None


def _unlisted_files(listings: Mapping[str, Listing], root: Path) -> Iterator[str]:
    """Find photographs in the folder that are in neither list."""
    listed = {image.file for listing in listings.values() for image in listing.images}
    unlisted = [file for file in image_files(root) if file not in listed]
    if unlisted:
        yield f"photographs in neither list ({len(unlisted)}): {_listed(unlisted)}"


def _photograph_warnings(splits: Mapping[str, Split]) -> Iterator[str]:
    yield from concerns(splits)
    every = [shown for split in splits.values() for shown in split.photographs]
    same = defaultdict(list)
    for shown in every:
        same[shown.sha256].append(shown.file)
    for files in same.values():
        if len(files) > 1:
            yield f"the same photograph {len(files)} times: {_listed(files)}"
    tiny = [shown.file for shown in every if min(shown.height, shown.width) < TINY_SIDE]
    if tiny:
        yield f"photographs with a side below {TINY_SIDE} pixels ({len(tiny)}): {_listed(tiny)}"


def _listed(files: Sequence[str]) -> str:
    more = f" and {len(files) - _MAX_LISTED} more" if len(files) > _MAX_LISTED else ""
    return ", ".join(files[:_MAX_LISTED]) + more
