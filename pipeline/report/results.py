"""The results that the report is made from: the opened stores of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import InstanceSource
from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.artifacts.truth import TrueImage, Truth
from pipeline.evaluation.reliability import Reliability


@dataclass(frozen=True)
class SplitResults:
    """A split, its predictions with calibrated scores, and its true masks if it has any."""

    split: Split
    truth: Truth
    predictions: InstanceSource
    refined: InstanceSource

    @cached_property
    def true_images(self) -> dict[str, TrueImage]:
        """The images that have true masks, by id."""
        return {image.id: image for image in self.truth.images}


@dataclass(frozen=True)
class PseudoMaskSources:
    """The stores that the pseudo masks of the training images come from."""

    peaks: PeakStore
    proposals: ProposalStore
    draws: DrawStore


@dataclass(frozen=True)
class Results:
    """The results of a run.

    `metrics`, `reliability`, `by_area` and `by_count` are written by the stage `evaluation`.
    `curves` are folders written by DVCLive, by the name of the training.
    """

    train: SplitResults
    val: SplitResults
    sources: PseudoMaskSources
    metrics: Mapping[str, Any]
    reliability: Reliability
    by_area: Path
    by_count: Path
    curves: Mapping[str, Path]
