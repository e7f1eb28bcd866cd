"""The upper bound: the same detector, trained on true instead of pseudo masks (WISE, table 1).

Its weights are evaluated, and used for nothing else.
"""

from pydantic import Field

from pipeline.artifacts.split import Split
from pipeline.common.parameters import Parameters
from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters
from pipeline.pseudo_masks.true_masks import TrueMasks


class MaskRcnnGtParameters(Parameters):
    """Settings of the upper bound; all others are those of `mask_rcnn` and `predictions`."""

    enabled: bool = Field(description="whether to train it; needs true masks of training images")


def match_steps(
    parameters: MaskRcnnParameters, split: Split, true_masks: TrueMasks
) -> MaskRcnnParameters:
    """Raise the epochs so that the upper bound trains for as many steps as the detector.

    Only the images with true masks are trained on. The epochs are multiplied by the ratio of the
    tagged photographs, which the detector learns from, to these; and by the number of rounds: the
    upper bound has a single round.
    """
    schedule = parameters.schedule
    tagged = sum(bool(photograph.tags) for photograph in split.photographs)
    times = parameters.rounds * tagged / len(true_masks)
    epochs = {
        "epochs": round(times * schedule.epochs),
        "milestones": tuple(round(times * epoch) for epoch in schedule.milestones),
    }
    return parameters.model_copy(update={"schedule": schedule.model_copy(update=epochs)})
