"""Datasets in Pascal VOC's format: lists, tags and, separately, true masks.

The folder of a year contains:

- `JPEGImages/ID.jpg`: the photographs
- `ImageSets/{Segmentation,Main}/LIST.txt`: the ids of a list
- `ImageSets/Main/CLASS_LIST.txt`, or the object names in `Annotations/ID.xml`: the tags
- `SegmentationObject/ID.png` and `SegmentationClass/ID.png`, for some images: the number of the
  instance and of the class at each pixel, where 255 is void

Everingham et al., The PASCAL VOC 2012 development kit.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal
from xml.etree.ElementTree import ParseError

import numpy as np
from defusedxml import ElementTree
from numpy.typing import NDArray

from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.truth import TrueImage, TrueInstance, Truth
from pipeline.common import files, masks, runtime
from pipeline.common.errors import InputError
from pipeline.common.images import open_image
from pipeline.common.progress import track
from pipeline.dataset.listing import Listed
from pipeline.execution.pool import ordered_map

BACKGROUND, VOID = 0, 255
MAX_NAME_BYTES = 250  # most file systems take 255, with the suffix
MAX_TEXT_BYTES = 64 * 2**20  # of a list or an annotation

TagSource = Literal["main", "annotations"]


def read_list(folder: Path, name: str, classes: Collection[str], tags: TagSource) -> list[Listed]:
    """Read the images of a list and which of the `classes` they show; by default, of all classes.

    As in PRM, objects marked difficult count as present. Boxes and masks are not read.

    Raises
    ------
    InputError
        If a file is missing or broken, or two files contradict each other.
    """
    ids = _image_ids(folder, name)
    if tags == "main":
        wanted = classes or _classes_of_lists(folder, name)
        seen = _tags_of_lists(folder, name, ids, wanted)
    else:
        seen = _names_in_annotations(folder, ids)
    return [Listed(i, f"JPEGImages/{i}.jpg", frozenset(seen[i])) for i in ids]


def read_truth(folder: Path, name: str, split: Split) -> Truth:
    """Read the masks of the photographs of `split`, the list `name`, that have masks.

    The class of an instance is the class of most of its pixels. Instances of classes that are not
    in the split are counted, and become background.

    As in VOC, classes are numbered from 1 in alphabetical order. These are the classes that have
    files in `ImageSets/Main` or, without such files, names in `Annotations`. Masks whose classes
    mostly contradict the tags are an error.

    Raises
    ------
    InputError
        If a mask is broken, has another size than its photograph, or an unknown class.
    """
    masked = [p for p in split.photographs if _mask_file(folder, "Object", p.id).is_file()]
    if not masked:
        return Truth(classes=split.classes, images=())
    numbered = _classes_of_lists(folder, name) or _all_annotated(folder)
    read = partial(_true_image, folder, numbered, split.classes)
    images = track(
        ordered_map(read, masked, runtime.workers()), len(masked), f"true masks of {name}"
    )
    truth = Truth(classes=split.classes, images=tuple(images))
    _check_numbering(folder, numbered, masked, truth)
    return truth


def _image_ids(folder: Path, name: str) -> list[str]:
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; expected the folder of a VOC year (JPEGImages, ...)"
        )
    sets = folder / "ImageSets"
    candidates = [sets / part / f"{name}.txt" for part in ("Segmentation", "Main")]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise InputError(f"{sets}: no list {name}; available: {_listed(_lists(folder))}")
    ids = [line.split()[0] for line in _lines(folder, path)]
    if not ids:
        raise InputError(f"{path}: empty; expected a list of image ids")
    seen = set()
    for image_id in ids:
        if image_id in seen:
            raise InputError(f"{path}: {image_id} is listed twice")
        seen.add(image_id)
        if not _is_file_name(image_id):
            raise InputError(
                f"{path}: {image_id} is not an image id: it leaves the folder or is too long"
            )
        if not _image_file(folder, image_id).is_file():
            raise InputError(f"{path}: {image_id} is not in {folder / 'JPEGImages'}")
    return ids


def _is_file_name(image_id: str) -> bool:
    is_name = image_id == PurePosixPath(image_id).name == PureWindowsPath(image_id).name != ".."
    return is_name and len(image_id.encode()) < MAX_NAME_BYTES


def _lists(folder: Path) -> set[str]:
    """Return the names of the lists: unlike files of tags, they contain only ids."""
    sets = folder / "ImageSets"
    alone = (
        path
        for path in sets.glob("Main/*.txt")
        if all(len(line.split()) == 1 for line in _lines(folder, path))
    )
    return {path.stem for path in [*sets.glob("Segmentation/*.txt"), *alone]}


def _classes_of_lists(folder: Path, name: str) -> list[str]:
    """Return the classes with a file of tags for the list `name`, in alphabetical order.

    `cat_small_train` belongs to the class cat if there is a list small_train, and otherwise to
    the class cat_small and the list train.
    """
    stems = {path.stem for path in folder.glob(f"ImageSets/Main/*_{name}.txt")}
    longer = {other for other in _lists(folder) if other.endswith(f"_{name}")}
    of_others = {stem for stem in stems for other in longer if f"_{stem}".endswith(f"_{other}")}
    return sorted(stem.removesuffix(f"_{name}") for stem in stems - of_others)


def _tags_of_lists(
    folder: Path, name: str, ids: Sequence[str], classes: Iterable[str]
) -> dict[str, set[str]]:
    seen: dict[str, set[str]] = {image_id: set() for image_id in ids}
    for class_name in classes:
        path = folder / "ImageSets" / "Main" / f"{class_name}_{name}.txt"
        flags = _flags(folder, path)
        for image_id in ids:
            if image_id not in flags:
                raise InputError(f"{path}: no tag for {image_id}; try the tags in Annotations")
            if flags[image_id] != "-1":
                seen[image_id].add(class_name)
    return seen


def _flags(folder: Path, path: Path) -> dict[str, str]:
    """Map image ids to 1 (present), 0 (only difficult objects) or -1 (absent)."""
    flags = {}
    for line in _lines(folder, path):
        image_id, *rest = line.split()
        if rest not in (["1"], ["0"], ["-1"]):
            raise InputError(f"{path}: '{line}': expected an image id and 1, 0 or -1")
        flags[image_id] = rest[0]
    return flags


def _names_in_annotations(folder: Path, ids: Iterable[str]) -> dict[str, set[str]]:
    """Map image ids to the names of the objects in their annotations."""
    return {i: _object_names(folder, i) for i in ids}


def _all_annotated(folder: Path) -> list[str]:
    names = (_object_names(folder, path.stem) for path in folder.glob("Annotations/*.xml"))
    return sorted(set().union(*names))


def _object_names(folder: Path, image_id: str) -> set[str]:
    missing = "no such annotation file"
    path = files.inside(folder, f"Annotations/{image_id}.xml", missing)
    try:
        root = ElementTree.fromstring(files.read_bytes(path, MAX_TEXT_BYTES, missing))
    except (ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: broken XML ({error})") from None
    names = [(node.findtext("name") or "").strip() for node in root.iter("object")]
    if "" in names:
        raise InputError(f"{path}: an object has no name")
    return set(names)


def _true_image(
    folder: Path, numbered: Sequence[str], classes: Sequence[str], photograph: Photograph
) -> TrueImage:
    """Read the true instances of a photograph; `numbered` are the classes by their numbers."""
    objects = _read_numbers(folder, _mask_file(folder, "Object", photograph.id), photograph)
    path = _mask_file(folder, "Class", photograph.id)
    kinds = _read_numbers(folder, path, photograph)
    labels, pixels = [], []
    numbers = np.setdiff1d(objects, [BACKGROUND, VOID])
    for number in numbers:
        mask = objects == number
        kind = _majority(kinds[mask])
        if not 1 <= kind <= len(numbered):
            raise InputError(
                f"{path}: instance {number} has class {kind}; classes are 1 to {len(numbered)}: "
                f"{_listed(numbered)}"
            )
        if numbered[kind - 1] in classes:
            labels.append(classes.index(numbered[kind - 1]))
            pixels.append(mask)
    *counts, void = [
        rle["counts"].decode() for rle in masks.encode(np.stack([*pixels, objects == VOID]))
    ]
    return TrueImage(
        id=photograph.id,
        height=photograph.height,
        width=photograph.width,
        instances=tuple(
            TrueInstance(label=label, counts=code)
            for label, code in zip(labels, counts, strict=True)
        ),
        other_objects=len(numbers) - len(labels),
        void=void,
    )


def _majority(kinds: NDArray[np.uint8]) -> int:
    """Return the most frequent class number, or 0 if no pixel has a class."""
    votes = np.bincount(kinds, minlength=256)
    votes[[BACKGROUND, VOID]] = 0
    return int(votes.argmax())


def _read_numbers(folder: Path, path: Path, photograph: Photograph) -> NDArray[np.uint8]:
    """Read the numbers of a mask file, uint8 (height, width)."""
    inside = files.inside(folder, path.relative_to(folder).as_posix())
    with open_image(inside) as image:
        if image.mode not in ("P", "L"):
            raise InputError(f"{path}: expected a PNG with a palette, not mode {image.mode}")
        if image.size != (photograph.width, photograph.height):
            raise InputError(
                f"{path}: {image.width} x {image.height} pixels, "
                f"but the photograph has {photograph.width} x {photograph.height}"
            )
        return np.asarray(image)


def _check_numbering(
    folder: Path, numbered: Sequence[str], photographs: Sequence[Photograph], truth: Truth
) -> None:
    """Raise an error if most masks have classes that are not tags of their photographs."""
    tagged = [
        truth.classes[instance.label] in photograph.tags
        for photograph, image in zip(photographs, truth.images, strict=True)
        for instance in image.instances
    ]
    if sum(tagged) < len(tagged) / 2:
        raise InputError(
            f"{folder / 'SegmentationClass'}: most instances have classes that are not tags of "
            f"their images; classes must be numbered from 1 in this order: {_listed(numbered)}"
        )


def _image_file(folder: Path, image_id: str) -> Path:
    return folder / "JPEGImages" / f"{image_id}.jpg"


def _mask_file(folder: Path, of: Literal["Object", "Class"], image_id: str) -> Path:
    return folder / f"Segmentation{of}" / f"{image_id}.png"


def _lines(folder: Path, path: Path) -> list[str]:
    """Read the lines of a list or of a file of tags that are not blank."""
    missing = "no such file; each class needs one per list"
    inside = files.inside(folder, path.relative_to(folder).as_posix(), missing)
    text = files.read_text(inside, MAX_TEXT_BYTES, missing)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
