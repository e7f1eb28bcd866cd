"""Photographs of a folder that show none of the classes, for the classifier alone."""

import os
from pathlib import Path

from pipeline.artifacts.split import Photograph, Split
from pipeline.common.errors import InputError
from pipeline.dataset.listing import Listed, Listing, image_files, index


def with_others(split: Split, folder: Path, unfinished: Path) -> Split:
    """Add the photographs of a folder and its subfolders to a split, without tags.

    Parameters
    ----------
    unfinished : folder for what is known of the photographs so far, see `index`.

    Raises
    ------
    InputError
        If there are none, one is broken, or one is also in the split.
    """
    listed = [Listed(id=file, file=file, tags=frozenset()) for file in image_files(folder)]
    if not listed:
        raise InputError(f"{folder}: no photographs; expected some that show none of the classes")
    others = index(
        Listing(folder, tuple(listed)), split.classes, "others", unfinished / "others.indexed"
    )
    known = {photograph.sha256: photograph.file for photograph in split.photographs}
    for photograph in others.photographs:
        if photograph.sha256 in known:
            raise InputError(
                f"{folder / photograph.file}: also a training image, "
                f"{known[photograph.sha256]}, whose tags say what it shows"
            )
    root = os.path.commonpath([os.path.abspath(split.root), os.path.abspath(folder)])
    return Split(
        root=root,
        classes=split.classes,
        photographs=(*_relative_to(root, split), *_relative_to(root, others)),
    )


def _relative_to(root: str, split: Split) -> list[Photograph]:
    """Give the files of the photographs relative to another root."""
    return [
        photograph.model_copy(update={"file": os.path.relpath(split.path(photograph), root)})
        for photograph in split.photographs
    ]
