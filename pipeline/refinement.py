"""Replacing predicted masks by the proposals most similar to them (WISE, figure 3)."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from pipeline import masks
from pipeline.artifacts.instances import Instances, InstanceStore
from pipeline.artifacts.proposals import Proposals, ProposalStore
from pipeline.artifacts.ragged import opened
from pipeline.parameters import Parameters


class RefinementParameters(Parameters):
    """Which proposals may replace a prediction."""

    minimum_objectness: float = Field(
        ge=0, le=1, description="least score of a proposal (paper: 0; released code: 0.75)"
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
        return refine(instances, proposals, self.parameters.minimum_objectness)


def refine(instances: Instances, proposals: Proposals, minimum_objectness: float) -> Instances:
    """Replace every mask by the proposal of highest Jaccard similarity (WISE, figure 3).

    Of equally similar proposals the first, most object-like one is taken. A mask that no
    proposal of at least `minimum_objectness` overlaps stays as it is.
    """
    eligible = [
        mask
        for mask, score in zip(proposals.masks, proposals.score, strict=True)
        if score >= minimum_objectness
    ]
    if not eligible:
        return instances
    similarity = masks.jaccard(instances.masks, eligible)
    refined = [
        eligible[best] if similarity[number, best] > 0 else instances.masks[number]
        for number, best in enumerate(similarity.argmax(axis=1))
    ]
    return Instances(refined, instances.label, instances.score)
