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
    """
    eligible = [
        mask
        for mask, score in zip(proposals.masks, proposals.score, strict=True)
        if score >= parameters.min_objectness
    ]
    if not eligible:
        return instances
    similarity = masks.iou(instances.masks, eligible)
    refined = [
        eligible[best] if of_mask[best] > 0 and of_mask[best] >= parameters.min_iou else mask
        for mask, of_mask, best in zip(
            instances.masks, similarity, similarity.argmax(axis=1), strict=True
        )
    ]
    return Instances(refined, instances.label, instances.score)
