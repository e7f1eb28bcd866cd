from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.artifacts.instances import Instances, InstanceStore, InstanceWriter
from pipeline.artifacts.weights import write_weights
from pipeline.classifier.inference import presence
from pipeline.classifier.network import Prm, PrmDescription
from pipeline.common import masks, runtime
from pipeline.common.images import read_image
from pipeline.detectors.mask_rcnn.inference import mask_scores, predict, predict_all
from pipeline.detectors.mask_rcnn.network import MaskRcnn
from pipeline.detectors.predictions import (
    PredictionsParameters,
    Predictor,
    presence_factor,
)
from pipeline.execution.pool import ordered_map
from tests.support.tiny import MASK_RCNN as DESCRIPTION

HEIGHT, WIDTH = 100, 150


def detector():
    runtime.seed_everything(0)
    return MaskRcnn(DESCRIPTION, "none", min_score=0.0, max_detections=10).eval()


def keeping(**changes):
    """Parameters that keep the ten best as the detector has them, but for some changes."""
    values = {
        "min_score": 0.0,
        "max_detections": 10,
        "presence_weight": 0,
        "mask_score_weight": 0,
        "flip": False,
        "max_overlap": 1,
    }
    return PredictionsParameters(**{**values, **changes})


class Known(torch.nn.Module):
    """A network that finds what it was told, in coordinates of the resized image."""

    description = DESCRIPTION

    def __init__(self, found):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.found = found

    def forward(self, images, sizes):
        assert images.shape == (1, 3, 64, 96)
        assert sizes == [(64, 96)]
        return [self.found]


def test_detections_come_back_at_the_size_of_the_photograph():
    full, nothing = torch.ones(1, 28, 28), torch.zeros(1, 28, 28)
    found = {
        "boxes": torch.tensor([[32.0, 16.0, 64.0, 48.0], [0.0, 0.0, 20.0, 20.0]]),
        "labels": torch.tensor([2, 1]),
        "scores": torch.tensor([0.9, 0.8]),
        "masks": torch.stack([full, nothing]),
    }
    instances, of_masks = predict(Known(found), np.zeros((HEIGHT, WIDTH, 3), np.uint8), flip=False)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[25:75, 50:100] = True  # 100 / 64 times the box; the empty mask is gone
    assert masks.iou(instances.masks, masks.encode(expected[None])).min() > 0.9
    assert instances.label.tolist() == [1]
    assert instances.score.tolist() == [np.float32(0.9)]
    assert of_masks.tolist() == pytest.approx([1.0], abs=0.01)  # less at its border


def test_the_score_of_a_mask_is_the_mean_probability_of_its_pixels():
    probabilities = torch.rand(5, 7, 9, generator=torch.Generator().manual_seed(0))
    inside = probabilities >= 0.5
    expected = [
        float(one[within].mean()) for one, within in zip(probabilities, inside, strict=True)
    ]
    found = mask_scores(probabilities, inside).tolist()
    assert found == pytest.approx(expected, rel=1e-5)
    assert min(found) >= 0.5


def test_mask_scores_are_factors_of_scores(tmp_path, photographs):
    write_weights(tmp_path / "weights.safetensors", detector(), DESCRIPTION)
    alone, weighted = (
        Predictor(tmp_path / "weights.safetensors", keeping(mask_score_weight=weight)).detect(
            read_image(photographs[0])
        )
        for weight in (0, 2)
    )
    _, of_masks = predict(detector(), read_image(photographs[0]), flip=False)
    expected = sorted(alone.score * of_masks**2, reverse=True)
    assert weighted.score.tolist() == pytest.approx(expected, rel=1e-5)


def test_with_its_mirror_image_a_photograph_shows_the_mirror_image_of_what_that_shows():
    network = detector()
    image = torch.rand(3, 64, 90, generator=torch.Generator().manual_seed(0))
    padded = torch.zeros(2, 3, 64, 96)
    padded[0, :, :, :90], padded[1, :, :, :90] = image, image.flip(2)
    with torch.inference_mode():
        (found,) = network.forward_mirrored(padded, [(64, 90)])
        (mirrored,) = network.forward_mirrored(padded.flip(0), [(64, 90)])
        (alone,) = network(padded[:1], [(64, 90)])
    assert {name: of.shape for name, of in found.items()} == {
        name: of.shape for name, of in alone.items()
    }
    x1, y1, x2, y2 = mirrored["boxes"].unbind(1)
    back = torch.stack([90 - x2, y1, 90 - x1, y2], 1)
    torch.testing.assert_close(found["boxes"], back, rtol=0, atol=1e-3)
    torch.testing.assert_close(found["scores"], mirrored["scores"], rtol=0, atol=1e-6)
    torch.testing.assert_close(found["masks"], mirrored["masks"].flip(3), rtol=0, atol=1e-5)
    assert torch.equal(found["labels"], mirrored["labels"])
    assert not torch.allclose(found["scores"], alone["scores"], atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_photographs_together_show_what_each_shows(flip):
    """Two are padded to one size, 64 x 96, and so are computed together."""
    network, rng = detector(), np.random.default_rng(0)
    sizes = [(HEIGHT, WIDTH), (WIDTH, HEIGHT), (64, 90), (HEIGHT, WIDTH)]
    images = [rng.integers(0, 255, (*size, 3), np.uint8) for size in sizes]
    together = predict_all(network, images, flip)
    for image, (found, of_masks) in zip(images, together, strict=True):
        alone, alone_masks = predict(network, image, flip)
        assert found.label.tolist() == alone.label.tolist()
        np.testing.assert_allclose(found.score, alone.score, rtol=1e-4)
        np.testing.assert_allclose(of_masks, alone_masks, rtol=1e-3)
        assert np.diag(masks.iou(found.masks, alone.masks)).min() > 0.99


def test_with_its_mirror_image_a_photograph_may_show_nothing():
    network = MaskRcnn(DESCRIPTION, "none", min_score=0.99, max_detections=10).eval()
    found, of_masks = predict(network, np.zeros((HEIGHT, WIDTH, 3), np.uint8), flip=True)
    assert (len(found.masks), found.label.dtype, found.score.dtype) == (0, np.int16, np.float32)
    assert of_masks.shape == (0,)


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(path)
    return paths


def test_round_trip_by_any_number_of_workers(tmp_path, photographs):
    write_weights(tmp_path / "weights.safetensors", detector(), DESCRIPTION)
    parameters = keeping()
    predictor = Predictor(tmp_path / "weights.safetensors", parameters)
    with InstanceWriter(tmp_path / "store", "predictions", DESCRIPTION.classes, {}) as writer:
        batches = [photographs[:2], photographs[2:]]
        results = chain.from_iterable(ordered_map(predictor, batches, 1))
        for path, found in zip(photographs, results, strict=True):
            writer.add(path.name, HEIGHT, WIDTH, found)
    store = InstanceStore(tmp_path / "store")
    for path in photographs:
        stored, (here,) = store.instances(path.name), predictor([path])
        assert 0 < len(here.masks) <= 10
        assert [mask["size"] for mask in stored.masks] == [[HEIGHT, WIDTH]] * len(here.masks)
        assert set(stored.label.tolist()) <= {0, 1}
        assert (np.diff(stored.score) <= 0).all()
        assert masks.area(stored.masks).min() > 0
        assert stored.masks == here.masks
        np.testing.assert_array_equal(stored.label, here.label)


def test_a_threshold_above_every_score_leaves_nothing(tmp_path, photographs):
    write_weights(tmp_path / "weights.safetensors", detector(), DESCRIPTION)
    parameters = keeping(min_score=0.99)
    (found,) = Predictor(tmp_path / "weights.safetensors", parameters)(photographs[:1])
    assert (len(found.masks), found.label.dtype, found.score.dtype) == (0, np.int16, np.float32)


def test_a_part_of_a_better_one_of_its_class_is_dropped_whichever_is_the_larger():
    shapes = np.zeros((6, 10, 10), bool)
    shapes[0, :, :4] = True
    shapes[1, :3, :4] = True  # inside the first
    shapes[2, :3, :4] = True  # likewise, but of another class
    shapes[3, :, 3:8] = True  # shares a quarter of the first's
    shapes[4] = True  # holds the first
    shapes[5, :3, 3:5] = True  # shares half of itself with the third, of its class
    labels = np.array([0, 0, 1, 0, 0, 1], np.int16)
    found = Instances(masks.encode(shapes), labels, np.linspace(0.9, 0.4, 6, dtype=np.float32))

    def kept(most):
        return [round(10 * float(score)) for score in found.without_parts(most).score]

    assert kept(0.6) == [9, 7, 6, 4]
    assert kept(0.4) == [9, 7, 6]
    assert kept(0.2) == [9, 7]
    assert kept(1.0) == [9, 8, 7, 6, 5, 4]
    none = found.take(np.arange(0))
    assert len(none.without_parts(0.6).masks) == 0


def test_the_classifier_says_which_classes_there_are():
    """0.4 is the best of class 0: with weight 1 it gets the classifier's 0.9, the next one half."""
    found = Instances(
        masks.encode(np.eye(4, dtype=bool).reshape(4, 2, 2)),
        np.array([1, 0, 0, 1], np.int16),
        np.array([0.6, 0.4, 0.2, 0.1], np.float32),
    )
    present = np.array([0.9, 0.3], np.float32)
    fully = found.with_scores(found.score * presence_factor(found, present, 1.0))
    np.testing.assert_allclose(fully.score, [0.9, 0.45, 0.3, 0.05], rtol=1e-6)
    assert fully.label.tolist() == [0, 0, 1, 1]
    assert fully.masks == [found.masks[number] for number in (1, 2, 0, 3)]
    half = found.with_scores(found.score * presence_factor(found, present, 0.5))
    expected = [np.sqrt(0.9 * 0.4), np.sqrt(0.3 * 0.6), np.sqrt(0.9 * 0.4) / 2]
    np.testing.assert_allclose(half.score[:3], expected, rtol=1e-6)
    none = found.take(np.arange(0))
    assert presence_factor(none, present, 1.0).shape == (0,)


def test_the_classifier_is_asked_where_it_has_weight(tmp_path, photographs):
    write_weights(tmp_path / "weights.safetensors", detector(), DESCRIPTION)
    description = PrmDescription(
        backbone="tf_efficientnet_lite0", classes=DESCRIPTION.classes, image_size=64, upsample=1
    )
    torch.manual_seed(0)
    write_weights(tmp_path / "prm.safetensors", Prm(description, "none"), description)
    alone, asked = (
        Predictor(
            tmp_path / "weights.safetensors",
            keeping(presence_weight=weight),
            tmp_path / "prm.safetensors",
        ).detect(read_image(photographs[0]))
        for weight in (0.0, 1.0)
    )
    assert sorted(map(str, alone.masks)) == sorted(map(str, asked.masks))
    network = Prm.load(tmp_path / "prm.safetensors")
    (present,) = presence(network, [read_image(photographs[0])])
    for label in np.unique(asked.label):
        best = asked.score[asked.label == label].max()
        assert best == pytest.approx(present[label], rel=1e-5)
