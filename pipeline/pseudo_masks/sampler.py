"""Sampling of a proposal for each peak, in proportion to objectness (WISE, Eq. 1)."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from pipeline.artifacts.draws import Draws
from pipeline.artifacts.peaks import PeakStore, Points
from pipeline.artifacts.proposals import Proposals, ProposalStore
from pipeline.artifacts.ragged import opened
from pipeline.common import masks
from pipeline.common.parameters import Parameters


class SamplerParameters(Parameters):
    """Settings of the stage `sampler`."""

    renamed: ClassVar[Mapping[str, str]] = {
        "agreement": "agreement_power",
        "visits": "draws_per_peak",
    }

    temperature: float = Field(
        description="1: Eq. 1; towards 0: the proposal of highest objectness; large: uniform",
        json_schema_extra={"exclusiveMinimum": 0},  # checked below, with a clearer message
    )
    agreement_power: float = Field(
        ge=0,
        description="exponent of a candidate's expected IoU with the draw, a second factor; "
        "0: Eq. 1",
    )
    max_overlap: float = Field(
        ge=0,
        le=1,
        description="maximum overlap of the most likely candidates of two peaks of a class, as a "
        "fraction of the smaller mask; the draws of the worse peak are not used; 1: no limit",
    )
    draws_per_peak: PositiveInt = Field(description="draws per peak, one for each training epoch")
    seed: NonNegativeInt = Field(description="seed of the draws")

    @field_validator("temperature")
    @classmethod
    def _positive(cls, temperature: float) -> float:
        if temperature <= 0:
            raise ValueError(
                "must be above 0; 1e-6 always draws the proposal of highest objectness"
            )
        return temperature


@dataclass(frozen=True)
class Sampler:
    """Draws proposals from one store for the peaks of another."""

    peaks: Path
    proposals: Path
    parameters: SamplerParameters

    def __call__(self, image_id: str) -> Draws:
        """Draw for one image, for all epochs of the training."""
        peaks = opened(PeakStore, self.peaks).points(image_id)
        proposals = opened(ProposalStore, self.proposals).proposals(image_id)
        rng = image_generator(self.parameters.seed, image_id)
        return draw(peaks, proposals, self.parameters, rng)


def image_generator(seed: int, image_id: str) -> np.random.Generator:
    """Make the generator of one image's draws, which do not depend on other images."""
    return np.random.default_rng([seed, zlib.crc32(image_id.encode())])


def draw(
    peaks: Points, proposals: Proposals, parameters: SamplerParameters, rng: np.random.Generator
) -> Draws:
    """Draw a proposal for each peak and epoch. Peaks outside of all proposals are left out.

    The draws of an epoch do not depend on the number of later epochs, nor on which peaks are kept.
    """
    inside = masks.contains(proposals.masks, np.stack([peaks.y, peaks.x], 1))
    hit = np.flatnonzero(inside.any(0))
    candidate = [np.flatnonzero(inside[:, peak]).astype(np.int32) for peak in hit]
    probability = [_chances(proposals, numbers, parameters) for numbers in candidate]
    uniform = rng.random((parameters.draws_per_peak, len(peaks.label)))[:, hit]
    drawn = [
        numbers[pick(chances, uniform[:, peak])]
        for peak, (numbers, chances) in enumerate(zip(candidate, probability, strict=True))
    ]
    likely = np.array(
        [
            numbers[chances.argmax()]
            for numbers, chances in zip(candidate, probability, strict=True)
        ],
        np.int32,
    )
    return Draws(
        label=peaks.label[hit],
        candidate=candidate,
        probability=[chances.astype(np.float32) for chances in probability],
        draw=np.array(drawn, np.int32).reshape(len(hit), parameters.draws_per_peak),
        kept=one_per_object(peaks.label[hit], likely, proposals, parameters.max_overlap),
    )


def one_per_object(
    label: NDArray[np.int16], likely: NDArray[np.int32], proposals: Proposals, max_overlap: float
) -> NDArray[np.bool_]:
    """Find the peaks that are not on the object of a better peak of their class.

    Not published. Two peaks are on one object if the overlap of their most likely candidates, as a
    fraction of the smaller mask, exceeds `max_overlap`. The peak whose candidate has the higher
    objectness is the better one. All draws of a peak are used, or none.

    Parameters
    ----------
    label : int16 (n,), index of the class of each peak.
    likely : int32 (n,), index of the most likely candidate of each peak.
    max_overlap : 1 keeps all peaks.

    Returns
    -------
    bool (n,).
    """
    best = np.argsort(-proposals.score[likely], kind="stable")
    shapes = [proposals.masks[number] for number in likely[best]]
    kept = np.zeros(len(label), bool)
    kept[best[masks.suppress_within_classes(shapes, label[best], max_overlap)]] = True
    return kept


def _chances(
    proposals: Proposals, candidates: NDArray[np.int32], parameters: SamplerParameters
) -> NDArray[np.float64]:
    chances = probabilities(proposals.score[candidates], parameters.temperature)
    if parameters.agreement_power == 0:
        return chances
    of_candidates = [proposals.masks[number] for number in candidates]
    return agreed(chances, masks.iou_of_pairs(of_candidates), parameters.agreement_power)


def probabilities(objectness: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Compute the probability of each candidate, proportional to objectness ** (1 / temperature).

    Temperature 1 is Eq. 1. If all candidates have objectness 0, they are equally likely.

    Parameters
    ----------
    objectness : float (n,), 0 to 1.
    temperature : above 0.

    Returns
    -------
    float64 (n,), with sum 1.
    """
    with np.errstate(divide="ignore"):
        logits = np.log(objectness.astype(np.float64)) / temperature
    if not np.isfinite(logits.max()):
        return np.full(len(objectness), 1 / len(objectness))
    # Relative to the maximum, nothing overflows at low temperatures.
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum(), np.float64)


def agreed(
    chances: NDArray[np.float64], similarity: NDArray[np.float64], power: float
) -> NDArray[np.float64]:
    """Reweight candidates by their expected IoU with a candidate drawn by `chances`.

    Not published. Many similar masks around a peak are evidence for an object; an outlier of high
    objectness has few similar masks.

    Parameters
    ----------
    chances : float64 (n,), with sum 1.
    similarity : float64 (n, n), IoU of each two candidates.
    power : exponent of the expected IoU, which is relative to its maximum.

    Returns
    -------
    float64 (n,), with sum 1.
    """
    expected = similarity @ chances
    weights = chances * (expected / expected.max()) ** power
    return np.asarray(weights / weights.sum(), np.float64)


def pick(chances: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.intp]:
    """Turn uniform random numbers from [0, 1) into indices drawn with the given probabilities."""
    edges = np.cumsum(chances)
    return np.asarray(np.searchsorted(edges, uniform * edges[-1], side="right"), np.intp)
