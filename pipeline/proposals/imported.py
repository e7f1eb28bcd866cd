"""Proposals made elsewhere: COCO-format JSON, as users of DeepMask, MCG, COB or SAM have it.

A file is a list of results, `{"image_id", "segmentation", "score"}`, or an object with
`annotations` of that form and `images` (`id`, `file_name`). Without `images`, `image_id` is the
name of a photograph without its extension, which is its id in the split; with them, the
photograph is the one of that `file_name`. `segmentation` is a run-length code, compressed or
not, or polygons. Results are read one by one, and kept as compressed run-length codes.
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
    """Read the proposals of a split: for every photograph's id, at most `count`, best first.

    Masks without a pixel are left out. Scores above 1 or below 0 are refused.

    Raises
    ------
    InputError
        If the file is missing or not of that form, or names an image that is not in the split,
        or a mask is broken or of another size than its photograph; the message names it.
    """
    try:
        photographs = _photographs(path, split)
        found: dict[str, list[tuple[float, Rle]]] = {p.id: [] for p in split.photographs}
        for number, result in enumerate(_results(path)):
            photograph, score, rle = _read(result, photographs, f"{path}: result {number}")
            if masks.area([rle])[0]:
                found[photograph.id].append((score, rle))
    except FileNotFoundError:
        raise InputError(f"{path}: missing; an import needs train.json and val.json") from None
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
    """What `image_id` may be, as a string, and the photograph that it means."""
    by_id = {photograph.id: photograph for photograph in split.photographs}
    if _is_list(path):
        return by_id
    by_name = {PurePosixPath(p.file).name: p for p in split.photographs}
    meant = {}
    with path.open("rb") as file:
        for image in ijson.items(file, "images.item", use_float=True):
            try:
                name = PurePosixPath(image["file_name"]).name
                number = str(image["id"])
            except (KeyError, TypeError) as error:
                raise InputError(f"{path}: images: {error} is missing") from None
            if name not in by_name:
                raise InputError(f"{path}: images: {name} is no photograph of the split")
            meant[number] = by_name[name]
    return meant or by_id


def _read(
    result: Any, photographs: dict[str, Photograph], where: str
) -> tuple[Photograph, float, Rle]:
    if not isinstance(result, dict):
        raise InputError(f"{where}: an object with image_id, segmentation and score is needed")
    for key in ("image_id", "segmentation", "score"):
        if key not in result:
            raise InputError(f"{where}: no {key}")
    image, score = str(result["image_id"]), result["score"]
    if image not in photographs:
        raise InputError(f"{where}: image_id {image} is no photograph of the split")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise InputError(f"{where}: score {score!r}; a number from 0 to 1 is needed")
    photograph = photographs[image]
    height, width = photograph.height, photograph.width
    return photograph, float(score), segmentation_rle(result["segmentation"], height, width, where)
