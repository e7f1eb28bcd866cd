"""Reading of datasets: an index of each split and, separately, its true masks."""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.artifacts.split import Split
from pipeline.artifacts.truth import Truth
from pipeline.common.errors import InputError, is_one_line
from pipeline.common.parameters import Parameters
from pipeline.dataset import coco as coco_target
from pipeline.dataset import folder, voc
from pipeline.dataset.listing import Listed, Listing, file_key, index

MAX_NAME = 200  # characters of a tag, which tables and pictures show

# Names become parts of file names.
Name = Annotated[str, Field(pattern=r"^[^/\\]+$")]


class DatasetParameters(Parameters):
    """The photographs, their lists and their classes."""

    renamed: ClassVar[Mapping[str, str]] = {
        "val_share": "val_fraction",
    }

    kind: Literal["voc", "folder", "coco"] = Field(
        description="a VOC year, a folder and a table, or COCO annotations"
    )
    path: str = Field(min_length=1, description="folder of the photographs")
    tags: str = Field(
        min_length=1,
        description="what the tags are read from: a table (folder); a file, or a folder of "
        "instances_LIST.json (coco); ImageSets/Main or Annotations of path (voc)",
    )
    train: Name = Field(description="name of the list for training")
    val: Name = Field(description="name of the list for evaluation")
    val_fraction: float = Field(
        gt=0, lt=1, description="fraction of images in val if the tags name no lists"
    )
    classes: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        description="names of the classes, in order; if empty, all tags of the training images"
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class is listed twice")
        if self.train == self.val:
            raise ValueError("train and val must be different lists")
        allowed = [f"{self.path.rstrip('/')}/{part}" for part in ("ImageSets/Main", "Annotations")]
        if self.kind == "voc" and self.tags not in allowed:
            raise ValueError(f"tags must be {' or '.join(allowed)} for kind voc")
        return self


def read_listings(parameters: DatasetParameters, root: Path) -> dict[str, Listing]:
    """List the images of `train` and `val` without opening them.

    Parameters
    ----------
    root : the folder of the photographs.

    Raises
    ------
    InputError
        If the lists or the tags cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; dataset.path is the folder of the photographs")
    names = {"train": parameters.train, "val": parameters.val}
    lists = _lists(parameters, root, tuple(names.values()))
    if set(lists) == {""}:
        lists = dict(
            zip(names.values(), _random_split(lists[""], parameters.val_fraction), strict=True)
        )
    listings = {}
    for split, name in names.items():
        if not lists.get(name):
            available = ", ".join(sorted(filter(None, lists))) or "none"
            raise InputError(f"{parameters.tags}: no images of list {name}; available: {available}")
        listings[split] = Listing(root, tuple(lists[name]))
        _check_files(parameters, listings[split])
    _check_tags(parameters, {tag for listing in listings.values() for tag in listing.tags()})
    return listings


def _check_files(parameters: DatasetParameters, listing: Listing) -> None:
    """Raise InputError for a file that is listed twice."""
    seen: dict[str, str] = {}
    for image in listing.images:
        if (other := seen.setdefault(file_key(image.file), image.file)) != image.file:
            raise InputError(f"{parameters.tags}: {image.file} is the same file as {other}")


def _check_tags(parameters: DatasetParameters, tags: Iterable[str]) -> None:
    """Raise InputError for a tag that is no name, or two that are one name."""
    seen: dict[str, str] = {}
    for tag in sorted(tags):
        if not any(map(_is_visible, tag)) or len(tag) > MAX_NAME or not is_one_line(tag):
            raise InputError(
                f"{parameters.tags}: tag {tag!r}: a tag is one line of 1 to {MAX_NAME} characters"
            )
        if (other := seen.setdefault(unicodedata.normalize("NFC", tag), tag)) != tag:
            raise InputError(
                f"{parameters.tags}: tags {other!a} and {tag!a} are one name in two Unicode forms"
            )


def _is_visible(character: str) -> bool:
    return character.isprintable() and not character.isspace()


def _lists(
    parameters: DatasetParameters, root: Path, names: Sequence[str]
) -> dict[str, list[Listed]]:
    """Read the images of the lists, or of the list '' if the tags name no lists."""
    if parameters.kind == "folder":
        lists = folder.read_table(Path(parameters.tags))
        if "" in lists and len(lists) > 1:
            without = lists[""][0].id
            raise InputError(
                f"{parameters.tags}: {without} has no split, but other images have one"
            )
        return lists
    if parameters.kind == "coco":
        return coco_target.read_lists(Path(parameters.tags), root, names)
    source: voc.TagSource = "annotations" if parameters.tags.endswith("Annotations") else "main"
    return {name: voc.read_list(root, name, parameters.classes, source) for name in names}


def _random_split(images: Sequence[Listed], fraction: float) -> tuple[list[Listed], list[Listed]]:
    """Split images by a digest of their names, so that adding an image does not move the others.

    Both lists get at least one image.
    """
    if len(images) < 2:
        raise InputError(f"too few images ({len(images)}); at least one per list is needed")
    # The first 32 bits. The image of the lowest digest is always evaluated, the highest never.
    digest = {image.id: int(sha256(image.id.encode()).hexdigest()[:8], 16) for image in images}
    by_digest = sorted(digest, key=lambda name: (digest[name], name))
    evaluated = {name for name in by_digest if digest[name] < fraction * 2**32} | {by_digest[0]}
    evaluated.discard(by_digest[-1])
    return (
        [image for image in images if image.id not in evaluated],
        [image for image in images if image.id in evaluated],
    )


def choose_classes(
    parameters: DatasetParameters, listings: Mapping[str, Listing]
) -> tuple[str, ...]:
    """Return the classes of the parameters, by default all tags of the training images.

    Raises
    ------
    InputError
        If a class has no training image, or there is no class.
    """
    known = listings["train"].tags()
    for name in parameters.classes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            guess = f"did you mean {near[0]}? " if near else ""
            raise InputError(
                f"dataset.classes: no image of the list {parameters.train} has the tag {name}; "
                f"{guess}its tags are: {', '.join(known) or 'none'}"
            )
    if not known:
        raise InputError(f"{parameters.tags}: no image of the list {parameters.train} has a tag")
    return parameters.classes or tuple(known)


def read_splits(parameters: DatasetParameters, root: Path, unfinished: Path) -> dict[str, Split]:
    """Index the splits `train` and `val`, decoding every photograph once.

    Results are recorded in the folder `unfinished`, from which an interrupted call resumes.

    Raises
    ------
    InputError
        If a file is missing or broken, or a class has no training image.
    """
    listings = read_listings(parameters, root)
    classes = choose_classes(parameters, listings)
    return {
        name: index(listing, classes, name, unfinished / f"{name}.indexed")
        for name, listing in listings.items()
    }


def read_truths(
    parameters: DatasetParameters, root: Path, splits: Mapping[str, Split]
) -> dict[str, Truth]:
    """Read the true masks of the splits; a truth without images means that there are none.

    Raises
    ------
    InputError
        If a mask is broken, or does not fit its photograph.
    """
    names = {"train": parameters.train, "val": parameters.val}
    return {name: _read_truth(parameters, root, names[name], splits[name]) for name in splits}


def _read_truth(parameters: DatasetParameters, root: Path, name: str, split: Split) -> Truth:
    if parameters.kind == "folder":
        return Truth(classes=split.classes, images=())
    if parameters.kind == "coco":
        file = coco_target.annotation_file(Path(parameters.tags), name)
        return coco_target.read_truth(file, split.photographs, split.classes)
    return voc.read_truth(root, name, split)


def concerns(splits: Mapping[str, Split]) -> list[str]:
    """Return warnings about likely mistakes, one line each."""
    train, val = splits["train"], splits["val"]
    seen = Counter(tag for photograph in train.photographs for tag in photograph.tags)
    everywhere = [name for name in train.classes if seen[name] == len(train.photographs)]
    if len(everywhere) < len(train.classes):
        add = "it cannot be learned without photographs that do not; see prm.others"
    else:
        add = "what does not show it is learned from the photographs of prm.others"
    lines = [f"every training image shows {name}: {add}" for name in everywhere]
    shared = {p.sha256 for p in train.photographs} & {p.sha256 for p in val.photographs}
    if shared:
        lines.append(f"photographs in both lists: {len(shared)}, so val is not held out")
    return lines
