"""Self-training: a detector's detections in its own training images as its next pseudo masks.

Not in the paper. Of what is found, image-level tags decide what may be there.
"""

import numpy as np

from pipeline.artifacts.instances import Instances, InstanceStore
from pipeline.artifacts.split import Split
from pipeline.pseudo_masks.supervision import Supervision


class SelfTrainingMasks:
    """What was found of the tags of an image; of tags without a find, the masks there were before.

    Parameters
    ----------
    split : the training images and their tags.
    found : what the detector found in them.
    min_relative_score : least score of a detection that counts, as a fraction of the highest score
        of its class in the image. The highest one always counts: the tag says that the class is
        there.
    before : what the detector was trained on.
    """

    def __init__(
        self, split: Split, found: InstanceStore, min_relative_score: float, before: Supervision
    ) -> None:
        self._labels = {shown.id: split.labels(shown) for shown in split.photographs}
        self._found, self._min_relative_score, self._before = found, min_relative_score, before

    def __contains__(self, image_id: object, /) -> bool:
        return image_id in self._before or (
            isinstance(image_id, str) and len(self._detections(image_id).label) > 0
        )

    def instances(self, image_id: str, epoch: int, /) -> Instances:
        """The detections in an image, and for tags without one, the earlier masks of an epoch."""
        detections = self._detections(image_id)
        if image_id not in self._before:
            return detections
        before = self._before.instances(image_id, epoch)
        missing = before.take(np.flatnonzero(~np.isin(before.label, detections.label)))
        return Instances(
            detections.masks + missing.masks,
            np.concatenate([detections.label, missing.label]),
            np.concatenate([detections.score, missing.score]),
        )

    def _detections(self, image_id: str) -> Instances:
        found = self._found.instances(image_id)
        tagged = found.take(np.flatnonzero(np.isin(found.label, self._labels[image_id])))
        counts = tagged.score >= self._min_relative_score * tagged.best_of_class()
        return tagged.take(np.flatnonzero(counts))
