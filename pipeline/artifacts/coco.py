"""Masks in COCO's annotation format, for any other trainer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import masks
from pipeline.artifacts import files
from pipeline.artifacts.split import Photograph, Split
from pipeline.masks import Rle


class CocoAnnotations:
    """Collects instances image by image; `write` leaves one JSON file.

    Categories are numbered from 1 in the order of the split's classes, images from 1 in the
    order they are added; `file_name` is relative to the split's root.
    """

    def __init__(self, split: Split) -> None:
        self._categories = [{"id": i, "name": name} for i, name in enumerate(split.classes, 1)]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._annotations)

    def add(
        self, photograph: Photograph, rles: Sequence[Rle], label: NDArray[np.integer[Any]]
    ) -> None:
        """Add an image and its instances; `label` holds indices of classes, shape (n,)."""
        number = len(self._images) + 1
        self._images.append(
            {
                "id": number,
                "file_name": photograph.file,
                "height": photograph.height,
                "width": photograph.width,
            }
        )
        areas, boxes = masks.area(rles), masks.boxes(rles)
        for rle, category, area, box in zip(rles, label, areas, boxes, strict=True):
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": number,
                    "category_id": int(category) + 1,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    "area": int(area),
                    "bbox": box.tolist(),
                    "iscrowd": 0,
                }
            )

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        content = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": self._categories,
        }
        files.write_json(path, content)
