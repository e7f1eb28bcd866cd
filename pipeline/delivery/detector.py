"""A trained detector for photographs from files or in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.instances import Instances
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.common.images import as_pixels, read_image


@dataclass(frozen=True)
class Detections:
    """The n instances in a photograph of h x w pixels, by descending score.

    masks : bool (n, h, w).
    boxes : float32 (n, 4), the bounding boxes of the masks, x1 y1 x2 y2 in pixels.
    labels : n class names.
    scores : float32 (n,), 0 to 1.
    """

    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    labels: tuple[str, ...]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Detector:
    """Detects the instances of a photograph. It can be sent to other processes.

    Attributes
    ----------
    name : what messages call it.
    classes : class names, in the order of the labels.
    trained_on : photographs and supervision, in words.
    detect : the instances of a photograph, uint8 (h, w, 3), with scores before calibration.
    calibration : of the scores.
    min_score : minimum score after calibration.
    """

    name: str
    classes: tuple[str, ...]
    trained_on: str
    detect: Callable[[NDArray[np.uint8]], Instances]
    calibration: Calibration
    min_score: float

    def __post_init__(self) -> None:
        if self.calibration.classes != self.classes:
            raise InputError(
                f"{self.name}: detects {', '.join(self.classes)}, but its calibration is of "
                f"{', '.join(self.calibration.classes)}"
            )

    def __call__(
        self, photograph: str | PathLike[str] | Image.Image | NDArray[np.uint8]
    ) -> Detections:
        """Detect the instances of a photograph.

        Parameters
        ----------
        photograph : the path of a file, an image of Pillow, or RGB, uint8 (h, w, 3). The EXIF
            orientation of the first two is applied.

        Raises
        ------
        InputError
            If the photograph cannot be read, or is an array of another shape or dtype.
        """
        pixels = _pixels(photograph)
        found = self.kept(self.detect(pixels))
        return Detections(
            masks=np.ascontiguousarray(masks.decode(found.masks, *pixels.shape[:2])),
            boxes=masks.corners(found.masks).astype(np.float32),
            labels=tuple(self.classes[label] for label in found.label),
            scores=found.score,
        )

    def kept(self, found: Instances) -> Instances:
        """Calibrate the scores of what was detected, and keep those of at least `min_score`."""
        calibrated = self.calibration.apply(found)
        return calibrated.take(np.flatnonzero(calibrated.score >= self.min_score))


def _pixels(photograph: Any) -> NDArray[np.uint8]:
    """Return a photograph as RGB, uint8 (h, w, 3)."""
    if isinstance(photograph, (str, PathLike)):
        return read_image(Path(photograph))
    if isinstance(photograph, Image.Image):
        return as_pixels(photograph, "photograph")
    if not isinstance(photograph, np.ndarray):
        kind = type(photograph).__name__
        raise InputError(f"photograph: a path, an image of Pillow or an array, not a {kind}")
    shape = photograph.shape
    if photograph.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InputError(
            f"photograph: uint8 of shape (height, width, 3) is needed, not {photograph.dtype} of "
            f"shape {shape}"
        )
    return np.ascontiguousarray(photograph)
