"""True masks as supervision of a detector. Only the upper bound is trained on them."""

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.truth import Truth
from pipeline.common.errors import InputError


class TrueMasks:
    """The true masks of the images that have any, the same at each epoch.

    Raises
    ------
    InputError
        If no image has true masks.
    """

    def __init__(self, truth: Truth) -> None:
        self._images = {image.id: image for image in truth.images if image.instances}
        if not self._images:
            raise InputError(
                "no training image has true masks, there is nothing to train on; "
                "set mask_rcnn_gt.enabled to false"
            )

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, image_id: object, /) -> bool:
        return image_id in self._images

    def instances(self, image_id: str, _: int, /) -> Instances:
        """Return the true instances of an image."""
        return self._images[image_id].as_instances()

    def alternatives(self, _: str, /) -> Instances:
        """Return none: all objects are known."""
        return Instances.none()
