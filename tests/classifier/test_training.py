"""Training of the classifier: what it sees, where it starts, and that it learns."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image

from pipeline.artifacts.split import Photograph, Split
from pipeline.classifier.features import compute_features, views
from pipeline.classifier.network import peak_scores
from pipeline.classifier.others import write_others
from pipeline.classifier.training import (
    PrmParameters,
    TaggedImages,
    fine_tuning,
    head_training,
    is_frozen,
    others_for,
    prm_loss,
    untrained,
)
from pipeline.common.errors import InputError
from pipeline.training.batches import EpochSample
from pipeline.training.fit import fit
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
        untrained(split.model_copy(update={"photographs": tuple(blank)}), PARAMETERS)


@torch.inference_mode()
def test_it_starts_from_how_frequent_the_tags_are(split):
    network = untrained(split, PARAMETERS).eval()
    features = network.backbone(torch.rand(4, 3, 64, 64))
    expected = torch.logit(torch.tensor([10 / 12, 2 / 12]))
    for scores in (
        peak_scores(network.class_maps(features), "mean"),
        network.presence_logits(features),
    ):
        assert (scores - expected).abs().max() < 0.8
    training = fine_tuning(network, split, PARAMETERS)
    batch = training.samples.collate([training.samples[EpochSample(0, item)] for item in range(10)])
    losses = training.loss(batch)
    entropy = F.binary_cross_entropy(torch.tensor([0.9, 0.1]), torch.tensor([0.9, 0.1]))
    assert set(losses) == {"peaks", "presence"}
    for loss in losses.values():
        assert loss.total / loss.count == pytest.approx(entropy.item(), abs=0.1)


def alone(split):
    """The nine images tagged a, which are all there is of the class a."""
    return Split(root=split.root, classes=("a",), photographs=split.photographs[1:])


@pytest.fixture
def frozen(split, tmp_path):
    """Parameters with a file of others: six photographs that are black in the middle."""
    schedule = {**VALUES["schedule"], "backbone_lr_factor": 0.0, "epochs": 30, "batch_size": 4}
    file = tmp_path / "others.safetensors"
    values = {**VALUES, "image_size": 64, "schedule": schedule, "others": str(file)}
    parameters = PrmParameters.parse(values, "prm")
    network = untrained(split, parameters).eval()
    ((black, _),) = views(network, [np.zeros((40, 80, 3), np.uint8)])
    categories = Split(root=".", classes=("b",), photographs=split.photographs[1:7])
    write_others(file, network.description, "package", categories, lambda *_: black)
    return parameters


def test_others_are_only_read_if_every_image_shows_every_class(split, frozen):
    assert others_for(split, frozen) is None
    assert len(others_for(alone(split), frozen)) == 6


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"image_size": 96}, "prm.image_size = 64"),
        ({"weights": "none"}, "prm.weights = package"),
        (
            {"schedule": {**VALUES["schedule"], "backbone_lr_factor": 0.25}},
            "prm.schedule.backbone_lr_factor = 0",
        ),
        ({"others": "absent"}, "absent: missing"),
    ],
)
def test_others_that_do_not_fit_are_refused(split, frozen, changed, told):
    parameters = PrmParameters.parse({**frozen.model_dump(), **changed}, "prm")
    with pytest.raises(
        InputError, match=r"^every training image shows a: set prm\.others"
    ) as error:
        others_for(alone(split), parameters)
    assert told in str(error.value)


def test_a_class_is_learned_against_features_of_others(split, frozen, tmp_path):
    others = others_for(alone(split), frozen)
    network = untrained(alone(split), frozen, len(others)).eval()
    start = torch.logit(torch.tensor(10 / 17))
    assert torch.allclose(network.head.bias, start)
    features = compute_features(network, alone(split), tmp_path)
    training = head_training(network, alone(split), frozen, features, others)
    assert len(training.samples) == 9 + 6
    image, tags = training.samples[EpochSample(0, 9)]
    assert image.shape == (1280, 2, 2)
    assert tags.tolist() == [0]
    trained(training, tmp_path / "alone")
    with torch.inference_mode():
        white = network.presence_logits(torch.from_numpy(features(0, False))[None].float())
        black = network.presence_logits(torch.from_numpy(others.spread(0, 2, 2))[None].float())
    assert white > 0 > black


def test_the_maps_learn_from_peaks_alone(split):
    """The gradient of the presence ends at its own head."""
    network = untrained(split, PARAMETERS)
    features = network.backbone(torch.rand(2, 3, 64, 64))
    prm_loss(network, "mean")((features, torch.eye(2)))["presence"].total.backward()
    learning = {name for name, weight in network.named_parameters() if weight.grad is not None}
    assert learning == {"presence_head.weight", "presence_head.bias"}


def trained(training, folder):
    fit(training, folder / "checkpoint.pt", nullcontext(lambda _: None))
    return training.network.state_dict()


def test_kept_features_train_the_same_heads_as_a_frozen_backbone(split, tmp_path):
    """Up to the features' rounding to 16 bits: 11 significant ones."""
    schedule = {**VALUES["schedule"], "backbone_lr_factor": 0.0, "epochs": 2, "batch_size": 4}
    # Magnified maps have plateaus, and which of their pixels is a peak depends on rounding.
    values = {**VALUES, "image_size": 96, "upsample": 1, "schedule": schedule}
    parameters = PrmParameters.parse(values, "prm")
    assert is_frozen(parameters)
    network = untrained(split, parameters)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    on_the_fly = trained(fine_tuning(network, split, parameters), tmp_path / "on_the_fly")
    network = untrained(split, parameters)
    features = compute_features(network.eval(), split, tmp_path)
    kept = trained(head_training(network, split, parameters, features), tmp_path / "kept")
    for name, value in before.items():
        if name.startswith("backbone."):
            assert torch.equal(kept[name], value)
            assert torch.equal(on_the_fly[name], value)
        else:
            assert not torch.equal(kept[name], value)
            torch.testing.assert_close(kept[name], on_the_fly[name], rtol=0, atol=2e-4)
