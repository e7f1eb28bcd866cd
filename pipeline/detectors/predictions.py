"""Detections of the trained detector in photographs (WISE, section 3.2; He et al., section 3.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt

from pipeline.artifacts.instances import Instances
from pipeline.classifier.inference import classifier, presence
from pipeline.classifier.network import Prm
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.common.images import read_image
from pipeline.common.parameters import Parameters
from pipeline.detectors.mask_rcnn.inference import predict_all
from pipeline.detectors.mask_rcnn.network import MaskRcnn


class PredictionsParameters(Parameters):
    """Settings of the stage `predictions`: which detections are kept."""

    renamed: ClassVar[Mapping[str, str]] = {
        "score_threshold": "min_score",
        "detections": "max_detections",
        "presence": "presence_weight",
        "overlap": "max_overlap",
    }

    min_score: float = Field(ge=0, lt=1, description="minimum score of a detection")
    max_detections: PositiveInt = Field(description="maximum number per image (COCO: 100)")
    presence_weight: float = Field(
        ge=0, le=1, description="weight of the classifier in deciding which classes are present"
    )
    mask_score_weight: NonNegativeFloat = Field(
        description="exponent of the mean probability of a mask's pixels, a factor of its score; "
        "0: scores stay as they are"
    )
    flip: bool = Field(description="also run on the mirror image, in twice the time")
    max_overlap: float = Field(
        ge=0,
        le=1,
        description="maximum overlap of two detections of a class, as a fraction of the smaller "
        "mask; 1: no limit",
    )


@dataclass(frozen=True)
class Predictor:
    """Detects the instances of photographs.

    Attributes
    ----------
    weights : file of the detector.
    of_classifier : file of the classifier; without it, `presence_weight` is taken as 0.
    """

    weights: Path
    parameters: PredictionsParameters
    of_classifier: Path | None = None

    def __call__(self, photographs: Sequence[Path]) -> list[Instances]:
        """Detect the instances of each of some photographs, as `detect` does."""
        images = [read_image(photograph) for photograph in photographs]
        return detect_all(images, *_networks(self), self.parameters)

    def detect(self, image: NDArray[np.uint8]) -> Instances:
        """Detect the instances of a photograph, uint8 (h, w, 3), as `detect` does.

        Raises
        ------
        InputError
            If one of the weights files is invalid, or they are of different classes.
        """
        return detect(image, *_networks(self), self.parameters)


def detect(
    image: NDArray[np.uint8],
    network: MaskRcnn,
    of_presence: Prm | None,
    parameters: PredictionsParameters,
) -> Instances:
    """Detect the instances of a photograph, uint8 (h, w, 3); see `detect_all`."""
    (found,) = detect_all([image], network, of_presence, parameters)
    return found


def detect_all(
    images: Sequence[NDArray[np.uint8]],
    network: MaskRcnn,
    of_presence: Prm | None,
    parameters: PredictionsParameters,
) -> list[Instances]:
    """Detect the instances of photographs, at their own sizes, by descending score.

    Parameters
    ----------
    images : uint8 (h_i, w_i, 3).
    of_presence : the classifier; without it, `presence_weight` is taken as 0.
    """
    found = predict_all(network, images, parameters.flip)
    factors = [of_masks**parameters.mask_score_weight for _, of_masks in found]
    if parameters.presence_weight > 0 and of_presence is not None:
        present = presence(of_presence, images)
        for factor, (instances, _), of_image in zip(factors, found, present, strict=True):
            factor *= presence_factor(instances, of_image, parameters.presence_weight)
    return [
        instances.with_scores(instances.score * factor).without_parts(parameters.max_overlap)
        for (instances, _), factor in zip(found, factors, strict=True)
    ]


@lru_cache(maxsize=1)
def _networks(of: Predictor) -> tuple[MaskRcnn, Prm | None]:
    """Load the networks of a predictor; the last ones stay loaded."""
    parameters = of.parameters
    network = MaskRcnn.load(of.weights, parameters.min_score, parameters.max_detections)
    network = runtime.channels_last(network, runtime.device())
    if parameters.presence_weight == 0 or of.of_classifier is None:
        return network, None
    of_presence = classifier(of.of_classifier)
    if of_presence.description.classes != network.description.classes:
        raise InputError(
            f"{of.of_classifier}: a classifier of {', '.join(of_presence.description.classes)}; "
            f"{of.weights} detects {', '.join(network.description.classes)}"
        )
    return network, of_presence


def presence_factor(
    found: Instances, present: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    """Compute factors of scores from the probability that the class of a detection is present.

    Not published. With m the highest score of the class in the image and p the classifier's
    probability of the class, a score s becomes s / m * p ** weight * m ** (1 - weight).

    Parameters
    ----------
    present : float32 (classes,), the classifier's probabilities.
    weight : 0 keeps the detector's scores; 1 replaces m by p.

    Returns
    -------
    float32 (n,), a factor for the score of each detection.
    """
    factor: NDArray[np.float32] = (present[found.label] / found.best_of_class()) ** weight
    return factor
