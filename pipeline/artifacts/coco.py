"""Masks in COCO's annotation format, for any other trainer."""

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.instances import Instances
from pipeline.common import files, masks
from pipeline.common.masks import Rle

_LICENSE = {"id": 1, "name": "that of the photographs", "url": ""}


class CocoAnnotations:
    """Collects instances image by image; `write` leaves one JSON file.

    Categories are numbered from 1 in the order of `classes`, images from 1 in the order they
    are added. Masks are compressed run-length codes, `counts` a string. `description` says
    what the annotations are.
    """

    def __init__(self, classes: Sequence[str], description: str) -> None:
        self._info = {"description": description, "version": "1.0"}
        self._categories = [
            {"id": i, "name": name, "supercategory": ""} for i, name in enumerate(classes, 1)
        ]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._annotations)

    def add(
        self,
        file_name: str,
        height: int,
        width: int,
        rles: Sequence[Rle],
        label: NDArray[np.integer[Any]],
        score: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Add an image and its n instances.

        Parameters
        ----------
        file_name : as it stands in the file, relative to the folder of images.
        height, width : of the image, upright, in pixels.
        label : indices of classes, shape (n,).
        score : confidence, shape (n,), for instances that have one.
        """
        number = len(self._images) + 1
        self._images.append(
            {
                "id": number,
                "file_name": file_name,
                "height": height,
                "width": width,
                "license": _LICENSE["id"],
            }
        )
        areas, boxes = masks.area(rles), masks.boxes(rles)
        scores = [{}] * len(rles) if score is None else [{"score": float(s)} for s in score]
        for rle, category, area, box, scored in zip(rles, label, areas, boxes, scores, strict=True):
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": number,
                    "category_id": int(category) + 1,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    "area": int(area),
                    "bbox": box.tolist(),
                    "iscrowd": 0,
                    **scored,
                }
            )

    def content(self) -> dict[str, Any]:
        """The document, as `write` writes it."""
        return {
            "info": self._info,
            "licenses": [_LICENSE],
            "images": self._images,
            "annotations": self._annotations,
            "categories": self._categories,
        }

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        files.write_json(path, self.content())


def write_results(
    path: Path, images: Iterable[tuple[str, Instances]], classes: Sequence[str]
) -> None:
    """Write the instances of images, by id, in COCO's result format: gzipped JSON, whole or not.

    Beyond that format, `image_id` is the name of the photograph and `category` that of the
    class, whose `category_id` counts from 1.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    # Neither time nor name goes into the file, whose bytes are those of its content.
    with unfinished.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
        separator = "["
        for image_id, instances in images:
            for result in _results(image_id, instances, classes):
                lines.write(f"{separator}\n{json.dumps(result)}".encode())
                separator = ","
        lines.write(b"\n]\n" if separator == "," else b"[]\n")
    unfinished.replace(path)


def _results(image_id: str, instances: Instances, classes: Sequence[str]) -> Iterator[Any]:
    for mask, label, score in zip(instances.masks, instances.label, instances.score, strict=True):
        yield {
            "image_id": image_id,
            "category_id": int(label) + 1,
            "category": classes[label],
            "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
            "score": float(score),
        }
