"""Samples: a photograph at one of the sizes, with boxes that stay on what they are around."""

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts.split import Photograph, Split
from pipeline.common.errors import InputError
from pipeline.community.training import CommunityParameters, TaggedRegions
from pipeline.training.batches import EpochSample
from tests.support.parameters import tiny_parameters

HEIGHT, WIDTH = 60, 90
BOX = [60.0, 6, 84, 30]  # the bright part of the image


class Boxes:
    def __contains__(self, image_id):
        return image_id != "none"

    def boxes(self, _):
        return torch.tensor([BOX, [0, 0, 10, 10], [5, 5, 9, 9]])


def parameters(**changed):
    values = tiny_parameters()["community"]
    return CommunityParameters.parse({**values, **changed}, "community")


@pytest.fixture
def split(tmp_path):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[6:30, 60:84] = 255
    Image.fromarray(image).save(tmp_path / "image.png")
    about = {"file": "image.png", "height": HEIGHT, "width": WIDTH, "sha256": ""}
    photographs = (
        Photograph(id="some", tags=("dog",), **about),
        Photograph(id="none", tags=("cat",), **about),
    )
    return Split(root=str(tmp_path), classes=("cat", "dog"), photographs=photographs)


def test_boxes_follow_sizes_and_flips(split):
    changed = {"min_sizes": [64, 96], "max_size": 160, "max_regions": 2}
    samples = TaggedRegions(split, Boxes(), parameters(**changed))
    assert len(samples) == 1
    seen = set()
    for epoch in range(12):
        sample = samples[EpochSample(epoch, 0)]
        again = samples[EpochSample(epoch, 0)]
        assert torch.equal(sample["image"], again["image"])
        assert sample["seed"] == again["seed"]
        _, height, width = sample["image"].shape
        left, top, right, bottom = sample["boxes"][0].round().int().tolist()
        inside = sample["image"][0, top + 2 : bottom - 2, left + 2 : right - 2]
        assert (inside > 200).all()
        assert sample["image"][0].sum() < 1.2 * 255 * (right - left) * (bottom - top)
        assert sample["boxes"].shape == (2, 4)
        assert sample["tags"].tolist() == [False, True]
        seen.add((height, width, left > width / 2))
    assert seen == {(h, w, flip) for h, w in ((64, 96), (96, 144)) for flip in (False, True)}


def test_without_a_tag_there_is_nothing_to_learn(split):
    bare = [photograph.model_copy(update={"tags": ()}) for photograph in split.photographs]
    with pytest.raises(InputError, match="no photograph has a tag"):
        TaggedRegions(split.model_copy(update={"photographs": tuple(bare)}), Boxes(), parameters())
