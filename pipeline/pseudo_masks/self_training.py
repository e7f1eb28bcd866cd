"""Self-training: a detector's finds in its own training images as its next pseudo masks.

Not in the paper. Of what is found, image-level tags decide what may be there.
"""

import numpy as np

from pipeline.artifacts.instances import Instances, InstanceStore
from pipeline.artifacts.split import Split
from pipeline.pseudo_masks.supervision import Objects


class Relabelled:
    """What was found of the tags of an image; of tags without a find, the masks there were before.

    Parameters
    ----------
    split : the training images and their tags.
    found : what the detector found in them.
    least_find : least score of a find that counts, in parts of the best find of its class in the
        image. That one always counts: the tag says that the class is there.
    before : what the detector was trained on.
    """

    def __init__(
        self, split: Split, found: InstanceStore, least_find: float, before: Objects
    ) -> None:
        self._labels = {shown.id: split.labels(shown) for shown in split.photographs}
        self._found, self._least_find, self._before = found, least_find, before

    def __contains__(self, image_id: object, /) -> bool:
        return image_id in self._before or (
            isinstance(image_id, str) and len(self._finds(image_id).label) > 0
        )

    def instances(self, image_id: str, visit: int, /) -> Instances:
        """The finds in an image, and for tags without one what there was before at a visit."""
        finds = self._finds(image_id)
        if image_id not in self._before:
            return finds
        before = self._before.instances(image_id, visit)
        missing = before.take(np.flatnonzero(~np.isin(before.label, finds.label)))
        return Instances(
            finds.masks + missing.masks,
            np.concatenate([finds.label, missing.label]),
            np.concatenate([finds.score, missing.score]),
        )

    def _finds(self, image_id: str) -> Instances:
        found = self._found.instances(image_id)
        tagged = found.take(np.flatnonzero(np.isin(found.label, self._labels[image_id])))
        counts = tagged.score >= self._least_find * tagged.best_of_class()
        return tagged.take(np.flatnonzero(counts))
