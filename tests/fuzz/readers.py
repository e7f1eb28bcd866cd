"""The readers of what users and other programs write, each with an input that it can read."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, PositiveInt

from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.weights import load_network, write_weights
from pipeline.common import masks
from pipeline.common.images import read_image
from pipeline.dataset import coco, index, voc
from pipeline.proposals.imported import read_proposals
from pipeline.proposals.sharpmask.source import read_source
from stages.common.yaml_files import read_yaml
from tests.support import ROOT
from tests.support.dataset import parameters
from wise.parameters import model

HEIGHT, WIDTH = 12, 16
STAGES = ("dataset", "prm", "proposals", "sampler", "mask_rcnn", "evaluation")
FORMATS = ("png", "jpeg", "tiff", "webp", "gif", "bmp", "ppm")


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    write : writes what can be read into an empty folder, and returns the files to mutate.
    read : reads the folder.
    exact : whether a mutation that is accepted must read as the original, because the file has
        checksums.
    """

    write: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]
    exact: bool = False


def _mask() -> np.ndarray:
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[:, 3:9, 4:10] = True
    return mask


def _split() -> Split:
    shown = [
        Photograph(id=name, file=f"{name}.png", height=HEIGHT, width=WIDTH, sha256="", tags=())
        for name in "ab"
    ]
    return Split(root=".", classes=("cat",), photographs=tuple(shown))


def _write_parameters(folder: Path) -> list[Path]:
    """Write the sections that are read, with their comments."""
    sections = re.split(r"(?m)^(?=\w)", (ROOT / "presets" / "scenes.yaml").read_text())
    read = [section for section in sections if section.split(":")[0] in STAGES]
    (folder / "params.yaml").write_text("".join(read))
    return [folder / "params.yaml"]


def _read_parameters(folder: Path) -> None:
    values = read_yaml(folder / "params.yaml")
    for stage in STAGES:
        model(stage).parse(values.get(stage), stage)


def _write_table(folder: Path) -> list[Path]:
    rows = "".join(f"{n}.jpg,{'cat;dog' if n % 2 else 'cat'},{n % 3}\n" for n in range(9))
    (folder / "tags.csv").write_text(f"image,tags,split\n{rows}".replace(",0\n", ",train\n"))
    return [folder / "tags.csv"]


def _write_lines(folder: Path) -> list[Path]:
    entries = [
        {"file_name": f"{n}.jpg", "tags": ["cat", "dog"][: n % 3], "split": ("train", "1")[n % 2]}
        for n in range(9)
    ]
    text = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    (folder / "metadata.jsonl").write_text(text)
    return [folder / "metadata.jsonl"]


def _read_table(folder: Path) -> Any:
    (tags,) = folder.iterdir()
    changed = {"kind": "folder", "path": str(folder), "tags": str(tags), "val": "1"}
    return index.read_listings(parameters(**changed), folder)


def _write_voc(folder: Path) -> list[Path]:
    lists, annotations = folder / "ImageSets" / "Main", folder / "Annotations"
    for place in (lists, annotations, folder / "JPEGImages"):
        place.mkdir(parents=True)
    for name in "ab":
        (folder / "JPEGImages" / f"{name}.jpg").touch()
        (annotations / f"{name}.xml").write_text(
            "<annotation><object><name>cat</name></object><object><name>dog</name></object>"
            "</annotation>"
        )
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "cat_train.txt").write_text("a  1\nb -1\n")
    return [*lists.iterdir(), *annotations.iterdir()]


def _read_voc(folder: Path) -> Any:
    return [voc.read_list(folder, "train", (), kind) for kind in ("main", "annotations")]


def _document() -> dict[str, Any]:
    (code,) = masks.encode(_mask())
    forms = (
        {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()},
        {"size": [HEIGHT, WIDTH], "counts": masks.runs([code["counts"]])[0].tolist()},
        [[4, 3, 10, 3, 10, 9, 4, 9]],
    )
    images = [
        {"id": n, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH}
        for n, name in enumerate("ab", 1)
    ]
    annotations = [
        {"id": n, "image_id": 1 + n % 2, "category_id": 1, "score": 0.5, "segmentation": form}
        for n, form in enumerate(forms)
    ]
    categories = [{"id": 1, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def _write_coco(folder: Path) -> list[Path]:
    (folder / "images").mkdir()
    for name in "ab":
        (folder / "images" / f"{name}.png").touch()
    (folder / "instances.json").write_text(json.dumps(_document()))
    return [folder / "instances.json"]


def _read_coco(folder: Path) -> Any:
    path = folder / "instances.json"
    listed = coco.read_lists(path, folder, ())[""]
    shown = [
        Photograph(id=image.id, file="", height=HEIGHT, width=WIDTH, sha256="", tags=())
        for image in listed
    ]
    return coco.read_truth(path, shown, ("cat",))


def _write_image(folder: Path) -> list[Path]:
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    for kind in FORMATS:
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, kind)
        (folder / f"{kind}.jpg").write_bytes(content.getvalue())
    return sorted(folder.iterdir())


def _read_image(folder: Path) -> None:
    for path in folder.iterdir():
        read_image(path)


class _Description(BaseModel):
    width: PositiveInt
    names: tuple[str, ...]


def _network(description: _Description) -> torch.nn.Module:
    return torch.nn.Linear(description.width, len(description.names))


def _write_weights(folder: Path) -> list[Path]:
    description = _Description(width=3, names=("cat", "dog"))
    write_weights(folder / "weights.safetensors", _network(description), description)
    return [folder / "weights.safetensors"]


def _read_weights(folder: Path) -> None:
    load_network(folder / "weights.safetensors", _Description, _network)


def _write_store(folder: Path) -> list[Path]:
    place = folder / "proposals" / "val"
    found = Proposals(masks.encode(_mask()), np.array([0.5], np.float32))
    with ProposalWriter(place, "grouping", "none", {"seed": 1}) as writer:
        for name in "ab":
            writer.add(name, HEIGHT, WIDTH, found)
    return sorted(path for path in place.rglob("*") if path.is_file())


def _read_store(folder: Path) -> Any:
    store = ProposalStore(folder / "proposals" / "val")
    read = [(name, store.size(name), store.proposals(name)) for name in store]
    return store.attributes, [(*of, found.masks, found.score.tolist()) for *of, found in read]


READERS = {
    "params.yaml": Reader(_write_parameters, _read_parameters),
    "tag tables": Reader(_write_table, _read_table),
    "metadata.jsonl": Reader(_write_lines, _read_table),
    "VOC lists and annotations": Reader(_write_voc, _read_voc),
    "COCO as dataset": Reader(_write_coco, _read_coco),
    "COCO as SharpMask source": Reader(_write_coco, read_source),
    "imported proposals": Reader(
        _write_coco, lambda folder: read_proposals(folder / "instances.json", _split(), 10)
    ),
    "photographs": Reader(_write_image, _read_image),
    "weights": Reader(_write_weights, _read_weights),
    "stores": Reader(_write_store, _read_store, exact=True),
}
