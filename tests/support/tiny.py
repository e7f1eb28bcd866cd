"""A project whose per-image stages run in seconds: images of noise, and tiny networks.

It shows the cost of the stages without their networks. Tests use it too.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.weights import write_weights
from pipeline.classifier.network import Prm, PrmDescription
from pipeline.community.network import CommunityArchitecture, CommunityDescription
from pipeline.detectors.mask_rcnn.network import Architecture, MaskRcnn, MaskRcnnDescription
from pipeline.proposals.sharpmask.network import SharpMask, SharpMaskDescription
from tests.support import ROOT

STAGES = ("peaks", "proposals", "retrieval", "sampler", "predictions", "refinement")
IMAGES = 60  # of the project in which the per-image stages have run
HEIGHT, WIDTH, FILES = 72, 96, 100
BACKBONE, CLASSES = "tf_efficientnet_lite0", ("cat", "dog")
PRM = PrmDescription(backbone=BACKBONE, classes=CLASSES, image_size=64, upsample=8)
ARCHITECTURE = Architecture(
    backbone=BACKBONE,
    finest_stride=4,
    min_size=64,
    max_size=128,
    anchor_size=8.0,
    channels=8,
    mask_layers=1,
    mask_size=28,
    box_features=16,
    rpn_post_nms_top_n=20,
    box_batch_size_per_image=8,
)
MASK_RCNN = MaskRcnnDescription(classes=CLASSES, architecture=ARCHITECTURE)
COMMUNITY = CommunityDescription(
    classes=CLASSES,
    architecture=CommunityArchitecture(
        backbone=BACKBONE,
        refinements=3,
        regression=True,
        mask_generation=True,
        segmentation=True,
        cells=14,
        width=8,
        background_class=True,
        gap_sigma=0.3,
        smooth_features=True,
        map_normalization="softmax",
        mask_threshold=0.4,
        frozen_levels=1,
    ),
)
SHARPMASK = SharpMaskDescription(
    backbone=BACKBONE,
    feature_channels=8,
    code_channels=16,
    score_channels=8,
    lateral_channels=4,
    refinement_channels=8,
    trained_on="3 instance masks on 2 images of a test",
)


def write_project(folder: Path, images: int, backbone: str = BACKBONE) -> None:
    """Write a project in which the per-image stages can run; nine in ten images are in train.

    There are at most `FILES` photographs, each listed several times. All networks have the
    `backbone`.
    """
    for part in ("pipeline", "stages"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(_parameters(), sort_keys=False))
    photographs = _photographs(folder / "photographs", images)
    train = images * 9 // 10
    for name, of_split in (("train", photographs[:train]), ("val", photographs[train:])):
        split = Split(root="photographs", classes=CLASSES, photographs=tuple(of_split))
        split.write(folder / "data" / "dataset" / f"{name}.json")
    _write_networks(folder / "data", backbone)


def use_grouping(folder: Path) -> None:
    """Set the method of proposals to grouping."""
    file = folder / "params.yaml"
    parameters = yaml.safe_load(file.read_text())
    parameters["proposals"] |= {"method": "grouping"}
    file.write_text(yaml.safe_dump(parameters, sort_keys=False))


def _parameters() -> dict[str, Any]:
    parameters: dict[str, Any] = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())
    parameters["peaks"]["scales"] = []
    parameters["proposals"]["max_proposals"] = 20
    parameters["proposals"]["sharpmask"] |= {"min_scale": 0.0, "max_scale": 0.0}
    parameters["proposals"]["grouping"] |= {"color_spaces": ["lab"], "scales": [100.0]}
    parameters["sampler"]["draws_per_peak"] = 2
    parameters["predictions"] |= {"min_score": 0.0, "max_detections": 10}
    return parameters


def _photographs(folder: Path, count: int) -> list[Photograph]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(min(count, FILES)):
        noise = Image.fromarray(rng.integers(0, 255, (9, 12, 3), np.uint8))
        noise.resize((WIDTH, HEIGHT)).save(folder / f"{number}.jpg")
    return [
        Photograph(
            id=f"{number:06d}",
            file=f"{number % FILES}.jpg",
            height=HEIGHT,
            width=WIDTH,
            sha256="",
            tags=(CLASSES[number % len(CLASSES)],),
        )
        for number in range(count)
    ]


def _write_networks(shelf: Path, backbone: str) -> None:
    torch.manual_seed(0)
    other = {"backbone": backbone}
    prm, sharpmask = PRM.model_copy(update=other), SHARPMASK.model_copy(update=other)
    architecture = ARCHITECTURE.model_copy(update=other)
    mask_rcnn = MaskRcnnDescription(classes=CLASSES, architecture=architecture)
    for stage, network, description in (
        ("prm", Prm(prm, "none"), prm),
        ("sharpmask", SharpMask(sharpmask, "none"), sharpmask),
        ("mask_rcnn", MaskRcnn(mask_rcnn, "none"), mask_rcnn),
    ):
        write_weights(shelf / stage / "weights.safetensors", network, description)
