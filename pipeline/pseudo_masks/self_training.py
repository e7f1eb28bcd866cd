"""Detections in the training images as pseudo masks: of earlier rounds, or of community learning.

Not in the papers. Only detections of a class that the image is tagged with are used.
"""

from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.instances import Instances, InstanceStore
from pipeline.artifacts.split import Split
from pipeline.pseudo_masks.supervision import Supervision


class TaggedDetections:
    """Detections of the tagged classes, the same at each epoch.

    Parameters
    ----------
    split : the training images and their tags.
    found : the detections in these images.
    min_relative_score : minimum score of a detection, as a fraction of the highest score of its
        class in the image. The highest-scored one is always used: the tag says that the class is
        in the image.
    """

    def __init__(self, split: Split, found: InstanceStore, min_relative_score: float) -> None:
        self._labels = {image.id: split.labels(image) for image in split.photographs}
        self._found, self._min_relative_score = found, min_relative_score

    def __contains__(self, image_id: object, /) -> bool:
        return isinstance(image_id, str) and len(self.instances(image_id, 0).label) > 0

    def instances(self, image_id: str, _: int, /) -> Instances:
        """Return the detections of the tagged classes in an image."""
        tagged = self._tagged(image_id)
        return tagged.take(np.flatnonzero(self._strong(tagged)))

    def alternatives(self, image_id: str, /) -> Instances:
        """Return the detections of the tagged classes with too low a score."""
        tagged = self._tagged(image_id)
        return tagged.take(np.flatnonzero(~self._strong(tagged)))

    def _tagged(self, image_id: str) -> Instances:
        return self._found.instances(image_id).of_classes(self._labels[image_id])

    def _strong(self, tagged: Instances) -> NDArray[np.bool_]:
        strong: NDArray[np.bool_] = (
            tagged.score >= self._min_relative_score * tagged.best_of_class()
        )
        return strong


class SelfTrainingMasks:
    """Detections of the tagged classes; earlier pseudo masks for tags without a detection.

    Parameters
    ----------
    detections : of the previous round.
    before : the supervision of the previous round.
    """

    def __init__(self, detections: TaggedDetections, before: Supervision) -> None:
        self._detections, self._before = detections, before

    def __contains__(self, image_id: object, /) -> bool:
        return image_id in self._before or image_id in self._detections

    def instances(self, image_id: str, epoch: int, /) -> Instances:
        """Return the detections in an image, and earlier masks for tags without a detection."""
        detections = self._detections.instances(image_id, epoch)
        if image_id not in self._before:
            return detections
        before = self._before.instances(image_id, epoch)
        return detections + before.of_classes(detections.label, others=True)

    def alternatives(self, image_id: str, /) -> Instances:
        """Return detections with too low a score; earlier masks for tags without a detection."""
        weak = self._detections.alternatives(image_id)
        if image_id not in self._before:
            return weak
        found = self._detections.instances(image_id, 0).label
        before = self._before.alternatives(image_id)
        return weak + before.of_classes(found, others=True)


class Alternating:
    """Two supervisions in turns: the first in the first epoch, the second in the second one.

    In an image of which one of them knows nothing, the other one is used at each epoch.
    """

    def __init__(self, first: Supervision, second: Supervision) -> None:
        self._turns = (first, second)

    def __contains__(self, image_id: object, /) -> bool:
        return any(image_id in supervision for supervision in self._turns)

    def instances(self, image_id: str, epoch: int, /) -> Instances:
        """Return the instances of an image in an epoch."""
        turn, other = self._turns[epoch % 2], self._turns[1 - epoch % 2]
        chosen = turn if image_id in turn else other
        return chosen.instances(image_id, epoch)

    def alternatives(self, image_id: str, /) -> Instances:
        """Return the possible objects of both."""
        known = [turn.alternatives(image_id) for turn in self._turns if image_id in turn]
        return reduce(add, known)
