"""Replacing predicted masks by the proposals most similar to them (WISE, figure 3)."""

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
    """Which proposals may replace a prediction."""

    renamed: ClassVar[Mapping[str, str]] = {
        "minimum_objectness": "min_objectness",
        "minimum_similarity": "min_iou",
    }

    min_objectness: float = Field(
        ge=0, le=1, description="least score of a proposal (paper: 0; released code: 0.75)"
    )
    min_iou: float = Field(
        ge=0, le=1, description="least Jaccard similarity of a proposal to what it replaces"
    )


@dataclass(frozen=True)
class Refiner:
    """Refines the images of a store of predictions by those of a proposal store."""

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
    """Replace every mask by the proposal of highest Jaccard similarity (WISE, figure 3).

    Of equally similar proposals the first, most object-like one is taken. A mask stays as it is
    that no proposal of at least `minimum_objectness` overlaps, or none by `minimum_similarity`.
    """
    eligible = [
        mask
        for mask, score in zip(proposals.masks, proposals.score, strict=True)
        if score >= parameters.min_objectness
    ]
    if not eligible:
        return instances
    similarity = masks.iou(instances.masks, eligible)
    least = parameters.min_iou
    refined = [
        eligible[best] if of_mask[best] > 0 and of_mask[best] >= least else mask
        for mask, of_mask, best in zip(
            instances.masks, similarity, similarity.argmax(axis=1), strict=True
        )
    ]
    return Instances(refined, instances.label, instances.score)
