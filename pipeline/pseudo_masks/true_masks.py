"""True masks as the supervision of a detector: the upper bound alone is trained on them."""

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.truth import Truth
from pipeline.common.errors import InputError


class TrueMasks:
    """The true masks of those images that have any, the same at every epoch.

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
        return self._images[image_id].as_instances()
