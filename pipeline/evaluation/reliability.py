"""Reliability of scores: how often detections are right, by their score.

A score is calibrated if, of the detections with a score of 0.7, 70 % are right. The expected
calibration error is the mean distance from that (Guo et al., On Calibration of Modern Neural
Networks, ICML 2017, section 2), over detections in place of images.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.common import files
from pipeline.evaluation.measures import matched
from pipeline.evaluation.protocols import Pairs

BINS = 10  # of equal width, from 0 to 1


class Curve(BaseModel):
    """The detections of a class in each of the `BINS` bins of scores.

    detections : their number.
    score : their mean score; None in an empty bin.
    right : the fraction that matches a true instance; None in an empty bin.
    """

    model_config = ConfigDict(frozen=True)

    detections: tuple[int, ...]
    score: tuple[float | None, ...]
    right: tuple[float | None, ...]

    @classmethod
    def of(cls, score: NDArray[np.float32], right: NDArray[np.bool_]) -> "Curve":
        """Sort n detections into bins: their scores, 0 to 1, and whether they are right."""
        number = np.minimum((score * BINS).astype(np.int64), BINS - 1)
        count = np.bincount(number, minlength=BINS)

        def means(values: NDArray[np.float64]) -> tuple[float | None, ...]:
            total = np.bincount(number, values, minlength=BINS)
            return tuple(
                round(t / n, 4) if n else None for t, n in zip(total.tolist(), count, strict=True)
            )

        return cls(
            detections=tuple(count.tolist()),
            score=means(score.astype(np.float64)),
            right=means(right.astype(np.float64)),
        )

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1; NaN without detections."""
        distances = [
            n * abs(score - right)
            for n, score, right in zip(self.detections, self.score, self.right, strict=True)
            if score is not None and right is not None
        ]
        return sum(distances) / sum(self.detections) if distances else math.nan


class Reliability(BaseModel):
    """The curve of every class, by the name of the method."""

    model_config = ConfigDict(frozen=True)

    curves: Mapping[str, Mapping[str, Curve]]

    @classmethod
    def read(cls, path: Path) -> "Reliability":
        """Read curves from JSON. Raises InputError if the file is missing or invalid."""
        return files.read_model(cls, path)

    def write(self, path: Path) -> None:
        """Write the curves as JSON."""
        files.write_json(path, self.model_dump())


def reliability_curves(counted: Pairs) -> dict[str, Curve]:
    """Compute the curve of every class, at the IoU of `matched`."""
    found = [pair.found for pair in counted.pairs]
    label = np.concatenate([np.zeros(0, np.int16), *(of_image.label for of_image in found)])
    score = np.concatenate([np.zeros(0, np.float32), *(of_image.score for of_image in found)])
    of_images = [matched(pair.true, pair.found) for pair in counted.pairs]
    right = np.concatenate([np.zeros(0, bool), *of_images])
    return {
        name: Curve.of(score[label == number], right[label == number])
        for number, name in enumerate(counted.classes)
    }
