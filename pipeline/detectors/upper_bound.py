"""The upper bound: the same detector, trained on true instead of pseudo masks (WISE, table 1).

What is learnt here reaches the tables and nothing else.
"""

from pydantic import Field

from pipeline.artifacts.split import Split
from pipeline.common.parameters import Parameters
from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters
from pipeline.pseudo_masks.true_masks import TrueMasks


class MaskRcnnGtParameters(Parameters):
    """Whether there is an upper bound; all else is that of mask_rcnn and predictions."""

    enabled: bool = Field(description="whether it is trained; wants true masks of train")


def match_steps(
    parameters: MaskRcnnParameters, split: Split, true_masks: TrueMasks
) -> MaskRcnnParameters:
    """Show the images that have true masks more often, so that there are as many steps.

    Epochs grow by how many times more photographs there are than have true masks, and by the
    rounds, which are made in one.
    """
    schedule = parameters.schedule
    times = parameters.rounds * len(split.photographs) / len(true_masks)
    epochs = {
        "epochs": round(times * schedule.epochs),
        "milestones": tuple(round(times * epoch) for epoch in schedule.milestones),
    }
    return parameters.model_copy(update={"schedule": schedule.model_copy(update=epochs)})
