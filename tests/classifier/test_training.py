"""Training of the classifier: what it sees, where it starts, and that it learns."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image

from pipeline.artifacts.split import Photograph, Split
from pipeline.classifier.network import peak_scores
from pipeline.classifier.training import PrmParameters, TaggedImages, prm_loss, untrained
from pipeline.common.errors import InputError
from pipeline.training.batches import EpochSample
from tests.support import ROOT

VALUES = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())["prm"]
PARAMETERS = PrmParameters.parse({**VALUES, "image_size": 64}, "prm")


@pytest.fixture
def split(tmp_path) -> Split:
    """Ten images, left halves white: nine of them tagged a, one b."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40] = 255
    photographs = []
    for number in range(10):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        photograph = Photograph(
            id=str(number),
            file=f"{number}.png",
            height=40,
            width=80,
            sha256="",
            tags=("a",) if number else ("b",),
        )
        photographs.append(photograph)
    return Split(root=str(tmp_path), classes=("a", "b"), photographs=tuple(photographs))


def test_images_are_warped_flipped_at_random_and_carry_their_tags(split):
    samples = TaggedImages(split, 64, seed=0)
    sides = set()
    for epoch in range(20):
        image, tags = samples[EpochSample(epoch, 0)]
        assert image.shape == (3, 64, 64)
        assert tags.tolist() == [0, 1]
        bright = image[0].float().mean(0)
        assert abs(bright[:20].mean() - bright[-20:].mean()) > 250
        sides.add(bool(bright[0] > bright[-1]))
    assert sides == {True, False}
    assert samples[EpochSample(0, 3)][1].tolist() == [1, 0]


def test_no_tags_are_refused(split):
    blank = [photograph.model_copy(update={"tags": ()}) for photograph in split.photographs]
    with pytest.raises(InputError, match="no photograph has a tag"):
        TaggedImages(split.model_copy(update={"photographs": tuple(blank)}), 64, seed=0)


@torch.inference_mode()
def test_it_starts_from_how_frequent_the_tags_are(split):
    torch.manual_seed(0)
    network = untrained(split, PARAMETERS).eval()
    scores = peak_scores(network(torch.rand(4, 3, 64, 64)), "mean")
    expected = torch.logit(torch.tensor([10 / 12, 2 / 12]))
    assert (scores - expected).abs().max() < 0.8
    samples = TaggedImages(split, 64, seed=0)
    batch = samples.collate([samples[EpochSample(0, item)] for item in range(10)])
    loss = prm_loss(network, "mean")(batch)["soft_margin"]
    entropy = F.binary_cross_entropy(torch.tensor([0.9, 0.1]), torch.tensor([0.9, 0.1]))
    assert loss.total / loss.count == pytest.approx(entropy.item(), abs=0.1)
