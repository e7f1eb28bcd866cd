"""Calibration of scores: a power for each class."""

from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.artifacts.instances import Instances, InstanceSource, InstanceView
from pipeline.common import files


class Calibration(BaseModel):
    """A power for the scores of each class, and what it was fitted to.

    classes : names.
    max_overlap : of two instances of a class that count as two objects, as a fraction of the
        smaller mask.
    expected : number of objects of each class in the training images; empty if scores are not
        calibrated.
    powers : of each class; 1 leaves its scores as they are.
    """

    model_config = ConfigDict(frozen=True)

    classes: tuple[str, ...]
    max_overlap: float
    expected: tuple[int, ...]
    powers: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]

    @model_validator(mode="after")
    def _one_power_per_class(self) -> Self:
        if len(self.powers) != len(self.classes):
            raise ValueError(f"{len(self.powers)} powers for {len(self.classes)} classes")
        return self

    @classmethod
    def off(cls, classes: tuple[str, ...]) -> "Calibration":
        """Give the calibration that leaves all scores as they are."""
        return cls(classes=classes, max_overlap=1.0, expected=(), powers=(1.0,) * len(classes))

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """Read a calibration from JSON. Raises InputError if the file is missing or invalid."""
        return files.read_model(cls, path)

    def write(self, path: Path) -> None:
        """Write the calibration as indented JSON."""
        files.write_json(path, self.model_dump(), indent=1)

    @property
    def enabled(self) -> bool:
        """Whether it was fitted."""
        return bool(self.expected)

    def apply(self, found: Instances) -> Instances:
        """Raise the scores to the powers of their classes; sort by descending new score.

        The order within a class stays the same.
        """
        return found.with_scores(found.score ** np.array(self.powers)[found.label])

    def view(self, source: InstanceSource) -> InstanceView:
        """Give the instances of a source with calibrated scores."""
        return InstanceView(source, lambda _, found: self.apply(found))
