"""Self-training: detections in the training images are the pseudo masks of the next round.

Not in the paper. Only detections of a class that the image is tagged with are used.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.instances import Instances, InstanceStore
from pipeline.artifacts.split import Split
from pipeline.pseudo_masks.supervision import Supervision


class SelfTrainingMasks:
    """Detections of the tagged classes; earlier pseudo masks for tags without a detection.

    Parameters
    ----------
    split : the training images and their tags.
    found : the detections in these images.
    min_relative_score : minimum score of a detection, as a fraction of the highest score of its
        class in the image. The highest-scored one is always used: the tag says that the class is
        in the image.
    before : the supervision of the previous round.
    """

    def __init__(
        self, split: Split, found: InstanceStore, min_relative_score: float, before: Supervision
    ) -> None:
        self._labels = {image.id: split.labels(image) for image in split.photographs}
        self._found, self._min_relative_score, self._before = found, min_relative_score, before

    def __contains__(self, image_id: object, /) -> bool:
        return image_id in self._before or (
            isinstance(image_id, str) and len(self._detections(image_id).label) > 0
        )

    def instances(self, image_id: str, epoch: int, /) -> Instances:
        """Return the detections in an image, and earlier masks for tags without a detection."""
        detections = self._detections(image_id)
        if image_id not in self._before:
            return detections
        before = self._before.instances(image_id, epoch)
        missing = before.take(np.flatnonzero(~np.isin(before.label, detections.label)))
        return detections + missing

    def alternatives(self, image_id: str, /) -> Instances:
        """Return detections with too low a score; earlier masks for tags without a detection."""
        tagged = self._tagged(image_id)
        weak = tagged.take(np.flatnonzero(~self._strong(tagged)))
        if image_id not in self._before:
            return weak
        before = self._before.alternatives(image_id)
        return weak + before.take(np.flatnonzero(~np.isin(before.label, tagged.label)))

    def _detections(self, image_id: str) -> Instances:
        tagged = self._tagged(image_id)
        return tagged.take(np.flatnonzero(self._strong(tagged)))

    def _tagged(self, image_id: str) -> Instances:
        found = self._found.instances(image_id)
        return found.take(np.flatnonzero(np.isin(found.label, self._labels[image_id])))

    def _strong(self, tagged: Instances) -> NDArray[np.bool_]:
        strong: NDArray[np.bool_] = (
            tagged.score >= self._min_relative_score * tagged.best_of_class()
        )
        return strong
