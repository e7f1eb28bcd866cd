"""The photographs that a pipeline is run on: an index of each split and, apart, its truth."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.artifacts.split import Split
from pipeline.artifacts.truth import Truth
from pipeline.datasets import voc
from pipeline.errors import InputError
from pipeline.parameters import Parameters
from pipeline.progress import track

# Names become parts of file names.
Name = Annotated[str, Field(pattern=r"^[^/\\]+$")]


class SceneParameters(Parameters):
    """How many scenes are drawn where the photographs are generated ones."""

    train: PositiveInt = Field(description="images of the training list")
    val: PositiveInt = Field(description="images of the evaluation list")
    source: PositiveInt = Field(description="images for training the proposal network")
    seed: NonNegativeInt = Field(description="of the generator")


class DatasetParameters(Parameters):
    """Which photographs, which lists of them, which classes."""

    kind: Literal["scenes", "voc"] = Field(description="generated scenes, or a folder as VOC's")
    path: str = Field(
        min_length=1, description="folder of a VOC year; of scenes, the module that draws them"
    )
    train: Name = Field(description="list that is trained on")
    val: Name = Field(description="list that is evaluated on")
    classes: tuple[Name, ...] = Field(min_length=1, description="the classes, in their order")
    tags: Literal["main", "annotations"] = Field(
        description="tags from ImageSets/Main, or from the names of objects in Annotations"
    )
    scenes: SceneParameters = Field(description="of the kind scenes alone")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("every class may be named once")
        if self.train == self.val:
            raise ValueError("train and val must be different lists")
        return self


def draw_scenes(parameters: DatasetParameters, folder: Path) -> Path:
    """Draw the target scenes and, in `folder / "source"`, those for the proposal network.

    Returns
    -------
    The folder of the target scenes, in the form of a VOC year.
    """
    from pipeline.datasets import scenes  # what other photographs do not depend on

    wanted = parameters.scenes
    target = folder / "VOCdevkit" / "VOC2012"
    lists = {parameters.train: wanted.train, parameters.val: wanted.val}
    scenes.draw_voc(target, lists, wanted.seed, partial(track, what="target scenes"))
    scenes.draw_coco(
        folder / "source", wanted.source, wanted.seed, partial(track, what="source scenes")
    )
    return target


def read_splits(parameters: DatasetParameters, folder: Path) -> dict[str, Split]:
    """Read the splits `train` and `val` from a folder in the form of a VOC year.

    Raises
    ------
    InputError
        If a file is missing or broken, or a class has no image to learn from.
    """
    known = voc.class_names(folder, parameters.train, parameters.tags)
    for name in parameters.classes:
        if name not in known:
            raise InputError(
                f"dataset.classes: {folder} has no tags of {name} for the list "
                f"{parameters.train}; it has those of: {', '.join(known) or 'none'}"
            )
    lists = {"train": parameters.train, "val": parameters.val}
    splits = {
        split: voc.read_split(folder, name, parameters.classes, parameters.tags)
        for split, name in lists.items()
    }
    for name, images in _images_a_class(splits["train"]).items():
        if images == 0:
            raise InputError(
                f"dataset.classes: no image of the list {parameters.train} shows {name}"
            )
    return splits


def read_truths(
    parameters: DatasetParameters, folder: Path, splits: Mapping[str, Split]
) -> dict[str, Truth]:
    """Read the true masks of the splits, as far as there are any.

    Raises
    ------
    InputError
        If a mask is broken, or does not fit its photograph.
    """
    return {
        "train": voc.read_truth(folder, parameters.train, splits["train"]),
        "val": voc.read_truth(folder, parameters.val, splits["val"]),
    }


def concerns(splits: Mapping[str, Split]) -> list[str]:
    """What is allowed, and yet most likely not meant: a line each."""
    train, val = splits["train"], splits["val"]
    lines = [
        f"every training image shows {name}: there is nothing to learn from"
        for name, images in _images_a_class(train).items()
        if images == len(train.photographs)
    ]
    shared = {p.sha256 for p in train.photographs} & {p.sha256 for p in val.photographs}
    if shared:
        lines.append(f"{len(shared)} photographs are in both lists: val is not held out")
    return lines


def _images_a_class(split: Split) -> dict[str, int]:
    return {name: sum(name in p.tags for p in split.photographs) for name in split.classes}
