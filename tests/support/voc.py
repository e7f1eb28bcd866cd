"""A folder in Pascal VOC's format, of any size, with tiny photographs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64  # pixels of a photograph
OBJECT = "<object><name>{name}</name></object>"


def write_voc(folder: Path, lists: Mapping[str, int], classes: Sequence[str]) -> None:
    """Write so many photographs for each list, with one or two classes each, in turns."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in lists.items():
        ids = [f"{name}_{number:06d}" for number in range(count)]
        (folder / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(ids))
        for number, image_id in enumerate(ids):
            noise = Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8))
            noise.resize((SIDE, SIDE)).save(folder / "JPEGImages" / f"{image_id}.jpg")
            seen = {classes[number % len(classes)], classes[number // 7 % len(classes)]}
            objects = "".join(OBJECT.format(name=one) for one in sorted(seen))
            annotation = f"<annotation>{objects}</annotation>"
            (folder / "Annotations" / f"{image_id}.xml").write_text(annotation)
