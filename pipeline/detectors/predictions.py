"""Instances that the trained detector finds in photographs (WISE 3.2; He et al., 3.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from pipeline.artifacts.instances import Instances
from pipeline.classifier.inference import classifier, presence
from pipeline.common import masks, runtime
from pipeline.common.images import read_image
from pipeline.common.parameters import Parameters
from pipeline.detectors.mask_rcnn.inference import predict
from pipeline.detectors.mask_rcnn.network import MaskRcnn


class PredictionsParameters(Parameters):
    """Which detections are kept."""

    renamed: ClassVar[Mapping[str, str]] = {
        "score_threshold": "min_score",
        "detections": "max_detections",
        "presence": "presence_weight",
        "overlap": "max_overlap",
    }

    min_score: float = Field(ge=0, lt=1, description="least confidence of a detection")
    max_detections: PositiveInt = Field(description="most of them an image (COCO: 100)")
    presence_weight: float = Field(
        ge=0, le=1, description="weight of the classifier in saying which classes an image has"
    )
    flip: bool = Field(description="see the mirror image too, in twice the time")
    max_overlap: float = Field(
        ge=0,
        le=1,
        description="most that two of a class share, in parts of the smaller mask; 1: no limit",
    )


@dataclass(frozen=True)
class Predictor:
    """Detects the instances of photographs.

    `weights` is the detector's file; `of_classifier` the classifier's, without which
    `parameters.presence` counts as 0.
    """

    weights: Path
    parameters: PredictionsParameters
    of_classifier: Path | None = None

    def __call__(self, photograph: Path) -> Instances:
        """Detect the instances of one photograph, at its own size, by descending score."""
        network = _network(self.weights, self.parameters)
        image = read_image(photograph)
        found = predict(network, image, self.parameters.flip)
        found = suppress_parts(found, self.parameters.max_overlap)
        if self.parameters.presence_weight == 0 or self.of_classifier is None:
            return found
        classes = presence(classifier(self.of_classifier), image)
        return rescored(found, classes, self.parameters.presence_weight)


@lru_cache(maxsize=1)
def _network(weights: Path, parameters: PredictionsParameters) -> MaskRcnn:
    network = MaskRcnn.load(weights, parameters.min_score, parameters.max_detections)
    return runtime.channels_last(network, runtime.device())


def suppress_parts(found: Instances, most: float) -> Instances:
    """Drop what shares more than `most` of the smaller mask with a better one of its class.

    Not published. Suppression by boxes leaves a head beside its animal; true objects of a class
    hide each other, and share few pixels.
    """
    if most == 1:
        return found
    same_class = found.label[:, None] == found.label
    return found.take(masks.greedy_nms(masks.overlap_with_smaller(found.masks) * same_class, most))


def rescored(found: Instances, present: NDArray[np.float32], weight: float) -> Instances:
    """Let a classifier say which classes there are, and the detector where.

    Not published. A detection's score s is s / m in parts of the best of its class in the image,
    times the presence of the class: the classifier's probability p, the detector's m, or what lies
    between, p ** weight * m ** (1 - weight).

    Parameters
    ----------
    present : float32 (classes,), the classifier's probabilities.
    """
    score = found.score * (present[found.label] / found.best_of_class()) ** weight
    order = np.argsort(-score, kind="stable")
    return replace(found, score=score).take(order)
