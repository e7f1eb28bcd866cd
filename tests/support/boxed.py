"""A detector in one file that has learnt nothing, and its parts."""

from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.compact import write_compact
from pipeline.artifacts.weights import load_weights, write_weights
from pipeline.classifier.network import Prm
from pipeline.delivery.boxed import BoxedDescription, write_boxed
from pipeline.detectors.mask_rcnn.network import MaskRcnn
from pipeline.detectors.predictions import PredictionsParameters
from pipeline.detectors.refinement import RefinementParameters
from pipeline.proposals.parameters import ProposalsParameters
from tests.support.parameters import tiny_parameters
from tests.support.tiny import CLASSES, MASK_RCNN, PRM

SETTINGS = PredictionsParameters(
    min_score=0.0,
    max_detections=10,
    presence_weight=0.5,
    mask_score_weight=0.5,
    flip=False,
    max_overlap=0.6,
)
CALIBRATION = Calibration(classes=CLASSES, max_overlap=0.6, expected=(3, 4), powers=(0.5, 2.0))


def description(**changes: Any) -> BoxedDescription:
    parameters = tiny_parameters()
    values = {
        "boxed": 1,
        "detector": MASK_RCNN,
        "classifier": PRM,
        "predictions": SETTINGS,
        "calibration": CALIBRATION,
        "refined_calibration": CALIBRATION,
        "proposals": ProposalsParameters.parse(parameters["proposals"], "proposals"),
        "refinement": RefinementParameters.parse(parameters["refinement"], "refinement"),
        "trained_on": "nothing",
        "preset": "none",
        "commit": "none",
    }
    return BoxedDescription(**{**values, **changes})


def write_parts(folder: Path) -> None:
    """Write weights of both networks, which lose nothing in the compact form."""
    torch.manual_seed(0)
    for name, network, of in (
        ("detector", MaskRcnn(MASK_RCNN, "none"), MASK_RCNN),
        ("classifier", Prm(PRM, "none"), PRM),
    ):
        file = folder / f"{name}.safetensors"
        write_weights(file, network, of)
        write_compact(file, file)
        load_weights(file, network)
        write_weights(file, network, of)


def write_box(folder: Path, target: Path, described: BoxedDescription) -> Path:
    """Write the parts in a folder to one file."""
    parts = (folder / "detector.safetensors", folder / "classifier.safetensors")
    write_boxed(target, described, *parts)
    return target
