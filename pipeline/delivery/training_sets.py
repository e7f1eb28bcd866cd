"""Pseudo masks for other trainers (COCO with polygons, Ultralytics YOLO) and for annotation tools.

All trainers read polygons: detectron2 by default, mmdetection, Ultralytics, torchvision. Polygons
follow the edges of a mask's pixels to a third of a pixel; holes are filled. The photographs are
copied, because Ultralytics rewrites JPEG files that it finds incomplete.

A photograph with tags but without pseudo masks is left out, because a trainer would treat its
objects as background. A photograph without tags is background, and is kept.
"""

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import Instances
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.common import files, masks
from pipeline.common.errors import InputError
from pipeline.common.masks import Rle
from pipeline.common.progress import track
from pipeline.delivery import formats
from pipeline.delivery.new_photographs import unique_names
from pipeline.delivery.pre_annotations import PreAnnotations

_YOLO_HEAD = """\
# Pseudo masks of WISE, one polygon per line. Supervision of the proposals: {supervision}
# Paths are relative to this file; pass its absolute path to Ultralytics. Other photographs have no
# pseudo masks: for a meaningful validation, set val to a folder with your own labels.
"""


class SampledMasks:
    """The pseudo masks that the stage `sampler` wrote for the photographs of a split.

    Parameters
    ----------
    path : the stage's COCO JSON file, with run-length encodings.
    split : the photographs.
    supervision : what the method of the proposals was trained on.

    Attributes
    ----------
    images : COCO entries of the photographs that are written.
    left_out : number of photographs that are left out: with tags, but without pseudo masks.

    Raises
    ------
    InputError
        If the file is missing, or belongs to other photographs.
    """

    def __init__(self, path: Path, split: Split, supervision: str) -> None:
        self._document = _read(path)
        self._split, self._supervision = split, supervision
        self._annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self._document["annotations"]:
            self._annotations[annotation["image_id"]].append(annotation)
        listed = self._document["images"]
        if [image["file_name"] for image in listed] != [p.file for p in split.photographs]:
            raise InputError(f"{path}: belongs to other photographs; run dvc repro sampler")
        self.images = [
            image
            for image, photograph in zip(listed, split.photographs, strict=True)
            if self._annotations[image["id"]] or not photograph.tags
        ]
        self.left_out = len(listed) - len(self.images)

    def __len__(self) -> int:
        return len(self._document["annotations"])

    def write_coco(self, out: Path) -> None:
        """Write `labels.json` (COCO) and `data/`, the photographs: the layout of FiftyOne."""
        annotations = []
        for image in track(self.images, len(self.images), "pseudo masks, coco"):
            copy_photograph(self._split, image["file_name"], out / "data" / image["file_name"])
            annotations += [
                {**annotation, "segmentation": _outline(annotation)}
                for annotation in self._annotations[image["id"]]
            ]
        info = self._document["info"] | {
            "supervision": {"photographs": "image-level tags", "proposals": self._supervision}
        }
        written = {"info": info, "images": self.images, "annotations": annotations}
        files.write_json(out / "labels.json", self._document | written)

    def write_yolo(self, out: Path) -> None:
        """Write `data.yaml`, `images/train/` and `labels/train/`, for Ultralytics."""
        names = unique_names([Path(image["file_name"]) for image in self.images])
        named = zip(self.images, names, strict=True)
        for image, name in track(named, len(names), "pseudo masks, yolo"):
            copied = out / "images" / "train" / f"{name}{Path(image['file_name']).suffix}"
            copy_photograph(self._split, image["file_name"], copied)
            found = _instances(self._annotations[image["id"]])
            lines = formats.yolo_lines(found, image["height"], image["width"])
            text = "".join(f"{line}\n" for line in lines)
            files.write_bytes(out / "labels" / "train" / f"{name}.txt", text.encode())
        # Ultralytics requires val.
        places = {"train": "images/train", "val": "images/train"}
        content = yaml.safe_dump(
            {**places, "names": dict(enumerate(self._split.classes))},
            sort_keys=False,
            allow_unicode=True,
        )
        head = _YOLO_HEAD.format(supervision=" ".join(self._supervision.split()))
        files.write_bytes(out / "data.yaml", f"{head}{content}".encode())


def write_pre_annotations(
    split: Split, draws: DrawStore, proposals: ProposalStore, out: Path
) -> PreAnnotations:
    """Write the pseudo masks for annotation tools, and `data/`, the photographs.

    The score of a mask is how much the draws of all epochs agree with it. Photographs with tags
    but without pseudo masks are included, as those that are least sure.
    """
    collected = PreAnnotations(split.classes, out / "data", "pseudo masks of WISE")
    for photograph in track(split.photographs, len(split.photographs), "pre-annotations"):
        copy_photograph(split, photograph.file, out / "data" / photograph.file)
        drawn, proposed = draws.draws(photograph.id), proposals.proposals(photograph.id)
        first = drawn.instances(proposed, epoch=0)
        instances = replace(first, score=drawn.agreement(proposed, epoch=0))
        missing = set(photograph.tags) - {split.classes[label] for label in first.label}
        size = photograph.height, photograph.width
        collected.add(photograph.file, *size, instances, len(missing))
    collected.write(out)
    return collected


def copy_photograph(split: Split, file: str, to: Path) -> None:
    """Copy a photograph of a split, or raise InputError if it is missing."""
    source = Path(split.root) / file
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, to)
    except FileNotFoundError:
        raise InputError(f"{source}: no such image; it existed when dataset ran") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: missing; run dvc repro sampler") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); run dvc repro sampler") from None
    if not isinstance(content, dict) or not {"info", "images", "annotations"} <= set(content):
        raise InputError(f"{path}: not written by the stage sampler; run dvc repro sampler")
    return content


def _rle(annotation: dict[str, Any]) -> Rle:
    code = annotation["segmentation"]
    return {"size": code["size"], "counts": code["counts"].encode()}


def _outline(annotation: dict[str, Any]) -> list[list[float]]:
    """Return a mask's polygons in COCO format: x y x y ..., in pixels."""
    (mask,) = masks.decode([_rle(annotation)], *annotation["segmentation"]["size"])
    return [polygon.ravel().round(2).tolist() for polygon in formats.polygons(mask)]


def _instances(annotations: list[dict[str, Any]]) -> Instances:
    return Instances(
        [_rle(annotation) for annotation in annotations],
        np.array([annotation["category_id"] - 1 for annotation in annotations], np.int16),
        np.ones(len(annotations), np.float32),
    )


WRITERS = {"coco": SampledMasks.write_coco, "yolo": SampledMasks.write_yolo}
