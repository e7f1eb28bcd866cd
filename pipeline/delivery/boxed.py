"""A trained detector in one file: its networks, and all that is needed to use them.

The file holds the detector and, if it is asked which classes are present, the classifier. Its
description holds the rest: classes, settings, calibration, and how the detector was trained.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator
from torch import nn

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.instances import Instances
from pipeline.artifacts.weights import load_network, load_weights, read_description, write_weights
from pipeline.classifier.network import Prm, PrmDescription
from pipeline.common import runtime
from pipeline.delivery.detector import Detector
from pipeline.detectors.mask_rcnn.network import MaskRcnn, MaskRcnnDescription
from pipeline.detectors.predictions import PredictionsParameters, detect
from pipeline.detectors.refinement import RefinementParameters
from pipeline.proposals.parameters import ProposalsParameters


class BoxedDescription(BaseModel):
    """Description of a file with a trained detector.

    boxed : version of the format.
    detector : the Mask R-CNN.
    classifier : what says which classes are present; None if it has no weight.
    predictions, proposals, refinement : settings of the stages.
    calibration, refined_calibration : of the scores of predictions, and of refined ones.
    trained_on : photographs and supervision, in words.
    preset : name of the preset that it was trained with.
    commit : of code and parameters, in words.
    """

    model_config = ConfigDict(frozen=True)

    boxed: Literal[1]
    detector: MaskRcnnDescription
    classifier: PrmDescription | None
    predictions: PredictionsParameters
    calibration: Calibration
    refined_calibration: Calibration
    proposals: ProposalsParameters
    refinement: RefinementParameters
    trained_on: str
    preset: str
    commit: str

    @model_validator(mode="after")
    def _same_classes(self) -> Self:
        classes = self.detector.classes
        if self.classifier is not None and self.classifier.classes != classes:
            raise ValueError("detector and classifier have other classes")
        if {self.calibration.classes, self.refined_calibration.classes} != {classes}:
            raise ValueError("detector and calibration have other classes")
        return self


class BoxedNetworks(nn.Module):
    """The networks of the file, without trained weights."""

    def __init__(self, description: BoxedDescription) -> None:
        super().__init__()
        self.description = description
        settings = description.predictions
        self.detector = MaskRcnn(
            description.detector, "none", settings.min_score, settings.max_detections
        )
        self.classifier = Prm(description.classifier, "none") if description.classifier else None


def write_boxed(
    target: Path, description: BoxedDescription, detector: Path, classifier: Path
) -> None:
    """Write a trained detector as one compact file.

    Parameters
    ----------
    detector, classifier : weights files; that of the classifier is not read if the description
        has none.

    Raises
    ------
    InputError
        If a weights file is invalid.
    """
    networks = BoxedNetworks(description)
    load_weights(detector, networks.detector)
    if networks.classifier is not None:
        load_weights(classifier, networks.classifier)
    write_weights(target, networks, description, small=True)


class _Format(BaseModel):
    boxed: int = 0


def box_version(file: Path) -> int:
    """Read the version of a detector in one file; 0 for the weights of a single network.

    Raises
    ------
    InputError
        If the file is no weights file, or broken.
    """
    return read_description(file, _Format).boxed


def read_boxed(file: Path, name: str, min_score: float, refined: bool = False) -> Detector:
    """Open a detector in one file; its networks are loaded when it is called first.

    Parameters
    ----------
    name, min_score : see `Detector`.
    refined : whether its calibration is that of refined predictions.

    Raises
    ------
    InputError
        If the file is no such detector, or of another version.
    """
    description = read_description(file, BoxedDescription)
    return Detector(
        name=name,
        classes=description.detector.classes,
        trained_on=description.trained_on,
        detect=_BoxedPredictor(file),
        calibration=description.refined_calibration if refined else description.calibration,
        min_score=min_score,
    )


@dataclass(frozen=True)
class _BoxedPredictor:
    """Detects instances with the networks of a file."""

    file: Path

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Detect the instances of a photograph, as `Predictor`."""
        networks = _networks(self.file)
        settings = networks.description.predictions
        return detect(image, networks.detector, networks.classifier, settings)


@lru_cache(maxsize=4)  # a program may use several in turn
def _networks(file: Path) -> BoxedNetworks:
    networks = load_network(file, BoxedDescription, BoxedNetworks).eval()
    return runtime.channels_last(networks, runtime.device())
