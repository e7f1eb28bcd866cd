"""A folder in which the training stages run, in seconds, without the stages before them."""

import numpy as np
import yaml
from PIL import Image

from pipeline.artifacts.draws import Draws, DrawWriter
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.truth import TrueImage, TrueInstance, Truth
from pipeline.common import masks
from pipeline.dataset.scenes.files import draw_coco
from tests.support import ROOT
from tests.support.parameters import tiny_parameters

CLASSES = ("cat", "dog")
SIDE = 96
# Top, bottom, left and right of the proposals of every image; the first one is drawn.
PROPOSED = ((10, 70, 20, 80), (14, 72, 24, 86), (0, 30, 0, 40), (40, 96, 5, 35))
NAMES = ("one", "two", "three")


def parameters(epochs, batch, **mask_rcnn):
    """Three items an epoch for every stage, and nothing drawn that shares would draw apart."""
    tiny = tiny_parameters()
    schedule = {"epochs": epochs, "batch_size": batch, "warmup_steps": 0}
    # Magnified maps have plateaus, and which of their pixels is a peak depends on rounding.
    tiny["prm"] |= {"image_size": 160, "upsample": 1}
    # So much that every step is seen in the loss, and so little that rounding is not.
    tiny["prm"]["schedule"] |= {"optimizer": "sgd", "learning_rate": 0.0005}
    tiny["prm"]["schedule"] |= schedule
    tiny["sharpmask"] |= {"samples_per_epoch": 3, "dropout": 0.0}
    tiny["sharpmask"]["deepmask"] |= schedule
    tiny["sharpmask"]["sharpening"] |= schedule
    tiny["mask_rcnn"] |= mask_rcnn
    tiny["mask_rcnn"]["schedule"] |= schedule
    tiny["community"] |= {"enabled": True}
    tiny["community"]["schedule"] |= schedule
    tiny["sampler"]["draws_per_peak"] = epochs
    return tiny


def make(folder, epochs, batch, **mask_rcnn):
    """Code, parameters, three photographs of noise with tags, draws and proposals, a source."""
    for name in ("pipeline", "stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters(epochs, batch, **mask_rcnn)))
    draw_coco(folder / "photographs" / "source", 4, seed=3)
    rng = np.random.default_rng(0)
    shapes = np.zeros((4, SIDE, SIDE), bool)
    for shape, (top, bottom, left, right) in zip(shapes, PROPOSED, strict=True):
        shape[top:bottom, left:right] = True
    proposals = Proposals(masks.encode(shapes), np.array([0.9, 0.8, 0.7, 0.6], np.float32))
    draws = Draws(
        np.array([1], np.int16),
        [np.empty(0, np.int32)],
        [np.empty(0, np.float32)],
        np.zeros((1, epochs), np.int32),
        np.ones(1, bool),
    )
    photographs = []
    with (
        ProposalWriter(folder / "data/proposals/train", "sharpmask", "masks", {}) as proposed,
        DrawWriter(folder / "data/sampler/train", CLASSES, {}) as drawn,
    ):
        for name in NAMES:
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


def true_image(name, *labels):
    """An image whose objects are all where the draws of `make` are."""
    shape = np.zeros((1, SIDE, SIDE), bool)
    (nothing,) = masks.encode(shape)
    shape[:, 10:70, 20:80] = True
    (code,) = masks.encode(shape)
    objects = [TrueInstance(label=label, counts=code["counts"].decode()) for label in labels]
    void = nothing["counts"].decode()
    return TrueImage(
        id=name, height=SIDE, width=SIDE, instances=tuple(objects), other_objects=0, void=void
    )


def truth(*images):
    return Truth(classes=CLASSES, images=images)


def enable(project):
    parameters = yaml.safe_load((project / "params.yaml").read_text())
    parameters["mask_rcnn_gt"]["enabled"] = True
    (project / "params.yaml").write_text(yaml.safe_dump(parameters))
