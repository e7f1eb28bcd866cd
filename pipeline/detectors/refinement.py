"""Refinement: each predicted mask is replaced by the proposal of highest IoU (WISE, figure 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

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
    max_overlap: float = Field(
        ge=0,
        le=1,
        description="maximum overlap of two refined masks of a class, as a fraction of the "
        "smaller mask; 1: no limit",
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

    Not published: of the refined masks, those that overlap a better one of their class by more
    than `max_overlap` are dropped. Several predictions of one object are often replaced by the
    same proposal, or by similar ones.
    """
    eligible = [
        mask
        for mask, score in zip(proposals.masks, proposals.score, strict=True)
        if score >= parameters.min_objectness
    ]
    return _replaced(instances, eligible, parameters.min_iou).without_parts(parameters.max_overlap)


def _replaced(instances: Instances, eligible: list[Rle], min_iou: float) -> Instances:
    """Replace each mask by the eligible one of highest IoU, if that is at least `min_iou`."""
    if not eligible:
        return instances
    similarity = masks.iou(instances.masks, eligible)
    refined = [
        eligible[best] if of_mask[best] > 0 and of_mask[best] >= min_iou else mask
        for mask, of_mask, best in zip(
            instances.masks, similarity, similarity.argmax(axis=1), strict=True
        )
    ]
    return Instances(refined, instances.label, instances.score)
