"""Proposals imported from JSON in COCO format, such as those of DeepMask, MCG, COB or SAM.

A file is a list of results, `{"image_id", "segmentation", "score"}`, or an object with
`annotations` of that form and `images` (`id`, `file_name`). Without `images`, `image_id` is the
id of a photograph in the split: its file name without the extension. With `images`, it refers to
the photograph with that `file_name`. `segmentation` is a run-length encoding, compressed or not,
or a list of polygons. Results are read one at a time and kept as compressed run-length encodings.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import ijson
import numpy as np

from pipeline.artifacts.proposals import Proposals
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.common.masks import Rle
from pipeline.common.segmentation import segmentation_rle


def read_proposals(path: Path, split: Split, count: int) -> dict[str, Proposals]:
    """Read the proposals of a split: at most `count` per photograph, best first.

    Empty masks are left out. Scores outside of 0..1 are refused.

    Returns
    -------
    The proposals by the id of the photograph. Every photograph of the split has an entry.

    Raises
    ------
    InputError
        If the file is missing or has another format, if it refers to an image that is not in the
        split, or if a mask is invalid or has another size than its photograph.
    """
    try:
        photographs = _photographs(path, split)
        found: dict[str, list[tuple[float, Rle]]] = {p.id: [] for p in split.photographs}
        for number, result in enumerate(_results(path)):
            photograph, score, rle = _read(result, photographs, f"{path}: result {number}")
            if masks.area([rle])[0]:
                found[photograph.id].append((score, rle))
    except FileNotFoundError:
        raise InputError(f"{path}: missing; the import needs train.json and val.json") from None
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON ({' '.join(str(error).split())})") from None
    return {image: _best(scored, count) for image, scored in found.items()}


def _best(scored: list[tuple[float, Rle]], count: int) -> Proposals:
    scored = sorted(scored, key=lambda pair: -pair[0])[:count]
    score = np.array([score for score, _ in scored], np.float32)
    return Proposals([rle for _, rle in scored], score)


def _is_list(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(next(ijson.basic_parse(file))[0] == "start_array")


def _results(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        yield from ijson.items(
            file, "item" if _is_list(path) else "annotations.item", use_float=True
        )


def _photographs(path: Path, split: Split) -> dict[str, Photograph]:
    """Map each valid `image_id`, as a string, to its photograph."""
    by_id = {photograph.id: photograph for photograph in split.photographs}
    if _is_list(path):
        return by_id
    by_name = {PurePosixPath(p.file).name: p for p in split.photographs}
    by_number = {}
    with path.open("rb") as file:
        for image in ijson.items(file, "images.item", use_float=True):
            try:
                name = PurePosixPath(image["file_name"]).name
                number = str(image["id"])
            except (KeyError, TypeError) as error:
                raise InputError(f"{path}: images: {error} is missing") from None
            if name not in by_name:
                raise InputError(f"{path}: images: {name} is not a photograph of the split")
            by_number[number] = by_name[name]
    return by_number or by_id


def _read(
    result: Any, photographs: dict[str, Photograph], where: str
) -> tuple[Photograph, float, Rle]:
    if not isinstance(result, dict):
        raise InputError(f"{where}: must be an object with image_id, segmentation and score")
    for key in ("image_id", "segmentation", "score"):
        if key not in result:
            raise InputError(f"{where}: no {key}")
    image, score = str(result["image_id"]), result["score"]
    if image not in photographs:
        raise InputError(f"{where}: image_id {image} is not a photograph of the split")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise InputError(f"{where}: score {score!r} must be a number from 0 to 1")
    photograph = photographs[image]
    height, width = photograph.height, photograph.width
    return photograph, float(score), segmentation_rle(result["segmentation"], height, width, where)
