"""The upper bound: the same detector, trained on true instead of pseudo masks (WISE, table 1).

What is learnt here reaches the tables and nothing else.
"""

import numpy as np
from pydantic import Field

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.split import Split
from pipeline.artifacts.truth import Truth
from pipeline.errors import InputError
from pipeline.mask_rcnn import MaskRcnnParameters
from pipeline.parameters import Parameters


class MaskRcnnGtParameters(Parameters):
    """Whether there is an upper bound; all else is that of mask_rcnn and predictions."""

    enabled: bool = Field(description="whether it is trained; wants true masks of train")


class TrueMasks:
    """The true masks of those images that have any, the same at every visit.

    Raises
    ------
    InputError
        If there are none.
    """

    def __init__(self, truth: Truth) -> None:
        self._images = {image.id: image for image in truth.images if image.instances}
        if not self._images:
            raise InputError(
                "no training image has true masks: there is nothing to learn; "
                "set mask_rcnn_gt.enabled to false"
            )

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, image_id: object, /) -> bool:
        return image_id in self._images

    def instances(self, image_id: str, _: int, /) -> Instances:
        """The true instances of an image."""
        image = self._images[image_id]
        ones = np.ones(len(image.instances), np.float32)
        return Instances(image.masks(), image.labels(), ones)


def as_many_steps(
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
