"""The stage `retrieval`, of which the other tests know the functions."""

from pipeline.artifacts.instances import InstanceStore
from pipeline.artifacts.split import Split
from tests.support.tiny import CLASSES


def test_the_stage_has_filled_a_store_a_split(undisturbed):
    for name in ("val", "train"):
        store = InstanceStore(undisturbed / "data" / "retrieval" / name)
        split = Split.read(undisturbed / "data" / "dataset" / f"{name}.json")
        assert list(store) == [photograph.id for photograph in split.photographs]
        assert store.attributes["classes"] == list(CLASSES)
    tags = {photograph.id: set(photograph.tags) for photograph in split.photographs}
    for image_id in store:
        labels = store.instances(image_id).label
        assert {CLASSES[label] for label in labels} <= tags[image_id]
