"""Refinement of predictions by proposals.

Each predicted mask is replaced by the proposal of highest IoU (WISE, figure 3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat

from pipeline.artifacts.instances import Instances, InstanceStore
from pipeline.artifacts.proposals import Proposals, ProposalStore
from pipeline.artifacts.ragged import opened
from pipeline.common import masks
from pipeline.common.masks import Rle
from pipeline.common.parameters import Parameters


class RefinementParameters(Parameters):
    """Settings of the stage `refinement`: which proposals may replace a prediction."""

    renamed: ClassVar[Mapping[str, str]] = {
        "minimum_objectness": "min_objectness",
        "minimum_similarity": "min_iou",
    }

    min_objectness: float = Field(
        ge=0, le=1, description="minimum score of a proposal (paper: 0; released code: 0.75)"
    )
    min_iou: float = Field(
        ge=0, le=1, description="minimum IoU of a proposal with the mask it replaces"
    )
    vote: bool = Field(
        description="whether all these proposals and the mask itself decide on each pixel, rather "
        "than the proposal of highest IoU alone"
    )
    max_overlap: float = Field(
        ge=0,
        le=1,
        description="maximum overlap of two refined masks of a class, as a fraction of the "
        "smaller mask; 1: no limit",
    )
    support_weight: NonNegativeFloat = Field(
        description="exponent of a mask's support by the proposals, a factor of its score; 0: "
        "scores stay as they are"
    )


@dataclass(frozen=True)
class Refiner:
    """Refines the predictions of one store with the proposals of another."""

    predictions: Path
    proposals: Path
    parameters: RefinementParameters

    def __call__(self, image_id: str) -> Instances:
        """Refine the predictions of one image."""
        instances = opened(InstanceStore, self.predictions).instances(image_id)
        proposals = opened(ProposalStore, self.proposals).proposals(image_id)
        return refine(instances, proposals, self.parameters)


def refine(
    instances: Instances, proposals: Proposals, parameters: RefinementParameters
) -> Instances:
    """Replace each mask by the proposal of highest IoU (WISE, figure 3).

    Among equal IoUs the proposal of highest objectness is taken. A mask stays unchanged if no
    proposal with a score of at least `min_objectness` overlaps it with an IoU of at least
    `min_iou`.

    Not published: with `vote`, a mask is replaced by the majority of these proposals and of itself,
    see `voted`.

    Not published: of the refined masks, those that overlap a better one of their class by more
    than `max_overlap` are dropped. Several predictions of one object are often replaced by the
    same proposal, or by similar ones.

    Not published either: scores are multiplied by the support of their masks to the power of
    `support_weight`. The support is the highest product of IoU and objectness among the proposals.
    The detector's score says whether the class is right; the support, whether the mask is.

    Returns
    -------
    The refined masks by descending score.
    """
    eligible = np.flatnonzero(proposals.score >= parameters.min_objectness)
    if len(eligible) == 0 or len(instances.masks) == 0:
        return instances.without_parts(parameters.max_overlap)
    candidates = [proposals.masks[number] for number in eligible]
    similarity = masks.iou(instances.masks, candidates)
    support = similarity * proposals.score[eligible]  # of each mask by each candidate
    if parameters.vote:
        votes = np.where(similarity >= parameters.min_iou, support, 0)
        refined = [
            voted(mask, candidates, weight)
            for mask, weight in zip(instances.masks, votes, strict=True)
        ]
    else:
        refined = _replaced(instances.masks, candidates, similarity, parameters.min_iou)
    return (
        replace(instances, masks=refined)
        .with_scores(instances.score * support.max(axis=1) ** parameters.support_weight)
        .without_parts(parameters.max_overlap)
    )


def voted(mask: Rle, candidates: Sequence[Rle], weight: NDArray[np.float64]) -> Rle:
    """Compute the pixels that are in a weighted majority of a mask and similar proposals.

    Not published. The errors of proposals of one object differ, and so they cancel out.

    Parameters
    ----------
    mask : has the weight 1.
    candidates, weight : n proposals, and the weight of each, float64 (n,). Those of weight 0 do
        not matter.

    Returns
    -------
    The pixels of at least half of all weight; the mask itself if there are none.
    """
    voters = np.flatnonzero(weight)
    if len(voters) == 0:
        return mask
    votes = masks.decode([mask], *mask["size"])[0].astype(np.float64)
    for number in voters.tolist():  # one at a time, since photographs may be large
        votes += weight[number] * masks.decode([candidates[number]], *mask["size"])[0]
    inside = votes >= (1 + weight.sum()) / 2
    return masks.encode(inside[None])[0] if inside.any() else mask


def _replaced(
    predicted: list[Rle], candidates: list[Rle], similarity: NDArray[np.float64], min_iou: float
) -> list[Rle]:
    """Replace each mask by the candidate of highest IoU, if that is at least `min_iou`."""
    return [
        candidates[best] if of_mask[best] > 0 and of_mask[best] >= min_iou else mask
        for mask, of_mask, best in zip(
            predicted, similarity, similarity.argmax(axis=1), strict=True
        )
    ]
