"""Export of masks in COCO's annotation and result formats."""

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
    """Collects instances image by image and writes them to one JSON file.

    Category ids start at 1, in the order of `classes`. Image ids start at 1, in the order in
    which images are added. Masks are compressed run-length encodings.

    Parameters
    ----------
    classes : names of the classes.
    description : of the annotations, for the file's `info`.
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
        file_name : relative to the folder of images.
        height, width : of the upright image, in pixels.
        rles : n masks.
        label : index of the class, shape (n,).
        score : confidence, shape (n,); by default, no scores are written.
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
        """Return the content of the JSON file."""
        return {
            "info": self._info,
            "licenses": [_LICENSE],
            "images": self._images,
            "annotations": self._annotations,
            "categories": self._categories,
        }

    def write(self, path: Path) -> None:
        """Write the JSON file atomically."""
        files.write_json(path, self.content())


def write_results(
    path: Path, images: Iterable[tuple[str, Instances]], classes: Sequence[str]
) -> None:
    """Write instances atomically in COCO's result format, as gzipped JSON.

    Unlike in COCO's own files, `image_id` is the name of the photograph, and `category` is the
    name of the class. `category_id` starts at 1.

    Parameters
    ----------
    images : id and instances of every image.
    classes : names of the classes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    # No time and no file name in the gzip header: equal content gives equal bytes.
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
