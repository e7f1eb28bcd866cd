"""A folder in which the three training stages run, in seconds, without the stages before them."""

import numpy as np
import yaml
from imports import ROOT
from PIL import Image
from test_repro import tiny_parameters

from pipeline.artifacts.draws import Draws, DrawWriter
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import masks
from pipeline.dataset.scenes.files import draw_coco

CLASSES = ("cat", "dog")
SIDE = 96


def parameters(epochs, batch, **mask_rcnn):
    """Three items an epoch for every stage, and nothing drawn that shares would draw apart."""
    tiny = tiny_parameters()
    schedule = {"epochs": epochs, "batch_size": batch, "warmup_steps": 0}
    # Magnified maps have plateaus, and which of their pixels is a peak hangs on rounding.
    tiny["prm"] |= {"image_size": 160, "upsample": 1}
    # So much that every step is seen in the loss, and so little that rounding is not.
    tiny["prm"]["schedule"] |= {"optimizer": "sgd", "learning_rate": 0.0005}
    tiny["prm"]["schedule"] |= schedule
    tiny["sharpmask"] |= {"samples_per_epoch": 3, "dropout": 0.0}
    tiny["sharpmask"]["deepmask"] |= schedule
    tiny["sharpmask"]["sharpening"] |= schedule
    tiny["mask_rcnn"] |= mask_rcnn
    tiny["mask_rcnn"]["schedule"] |= schedule
    tiny["sampler"]["draws_per_peak"] = epochs
    return tiny


def make(folder, epochs, batch, **mask_rcnn):
    """Code, parameters, three photographs of noise with tags, draws and proposals, a source."""
    for name in ("pipeline", "stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters(epochs, batch, **mask_rcnn)))
    draw_coco(folder / "photographs" / "source", 4, seed=3)
    rng = np.random.default_rng(0)
    shape = np.zeros((1, SIDE, SIDE), bool)
    shape[:, 10:70, 20:80] = True
    proposals = Proposals(masks.encode(shape), np.array([0.9], np.float32))
    draws = Draws(
        np.array([1], np.int16),
        [np.empty(0, np.int32)],
        [np.empty(0, np.float32)],
        np.zeros((1, epochs), np.int32),
    )
    photographs = []
    with (
        ProposalWriter(folder / "data/proposals/train", "sharpmask", "masks", {}) as proposed,
        DrawWriter(folder / "data/sampler/train", CLASSES, {}) as drawn,
    ):
        for name in ("one", "two", "three"):
            pixels = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.png")
            tags = CLASSES[: 1 + len(photographs) % 2]
            photographs.append(
                Photograph(
                    id=name, file=f"{name}.png", height=SIDE, width=SIDE, sha256="", tags=tags
                )
            )
            proposed.add(name, SIDE, SIDE, proposals)
            drawn.add(name, SIDE, SIDE, draws)
    split = Split(root=str(folder), classes=CLASSES, photographs=tuple(photographs))
    split.write(folder / "data" / "dataset" / "train.json")
