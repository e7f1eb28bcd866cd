"""Peaks in class response maps of several scales."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.classifier.inference import as_input
from pipeline.classifier.network import Prm, PrmDescription
from pipeline.classifier.peak_response import PeakBackpropagation
from pipeline.classifier.peaks import PeaksParameters, locate, locate_all
from pipeline.common.errors import InputError

VALUES = {
    "min_relative_height": 0.0,
    "response": "peak",
    "response_stride": 4,
    "scales": [],
    "flip": False,
}
DESCRIPTION = PrmDescription(
    backbone="tf_efficientnet_lite0", classes=("a", "b"), image_size=96, upsample=8
)


def parameters(**changed):
    return PeaksParameters.parse({**VALUES, **changed}, "peaks")


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Prm(DESCRIPTION, "package").eval()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    return network


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 255, (5, 8, 3), np.uint8), np.ones((20, 20, 1), np.uint8))


def test_the_size_of_training_as_the_only_scale_changes_nothing(network, image):
    plain = locate(network, image, [0, 1], parameters())
    scaled = locate(network, image, [0, 1], parameters(scales=[96]))
    assert len(plain.label)
    for name, values in vars(plain).items():
        np.testing.assert_array_equal(getattr(scaled, name), values)


def test_maps_are_averaged_over_scales_and_mirror_images(network, image):
    found = locate(network, image, [0, 1], parameters(scales=[96, 160], flip=True))
    with torch.no_grad():
        total = torch.zeros(1, 2, 24, 24)
        for size in (96, 160):
            for mirrored in (False, True):
                seen = image[:, ::-1] if mirrored else image
                maps = network.head(network.backbone(as_input(network, seen, size)))
                maps = F.interpolate(maps, (24, 24), mode="bilinear")
                total += maps.flip(-1) if mirrored else maps
    rows = ((found.y + 0.5) * 24 / image.shape[0]).astype(int)
    columns = ((found.x + 0.5) * 24 / image.shape[1]).astype(int)
    heights = total[0, found.label, rows, columns] / 4
    np.testing.assert_allclose(found.value, heights, rtol=1e-3, atol=1e-3)
    for label in (0, 1):
        assert found.value[found.label == label].max() == pytest.approx(
            total[0, label].max().item() / 4, abs=1e-3
        )
    # Each is propagated back from its cell at the size of training.
    at_training_size = PeakBackpropagation(network, as_input(network, image))
    cells = torch.tensor(np.stack([np.zeros_like(rows), found.label, rows, columns], 1)).long()
    expected = at_training_size.responses(cells, 4, together=False)
    np.testing.assert_allclose(found.response, expected, rtol=1e-3, atol=1e-6)


def test_images_together_have_the_peaks_of_each(network, image):
    images, labels = [image, image[:, ::-1], image[:80]], [[0, 1], [], [1]]
    settings = parameters(scales=[96, 160], flip=True)
    together = locate_all(network, images, labels, settings)
    for found, *given in zip(together, images, labels, strict=True):
        alone = locate(network, *given, settings)
        np.testing.assert_array_equal(found.label, alone.label)
        np.testing.assert_array_equal(found.y, alone.y)
        np.testing.assert_array_equal(found.x, alone.x)
        np.testing.assert_allclose(found.value, alone.value, rtol=1e-4)
        np.testing.assert_allclose(found.response, alone.response, rtol=1e-3, atol=1e-7)
    assert [len(found.label) > 0 for found in together] == [True, False, True]


def test_a_scale_that_the_backbone_cannot_divide_is_refused():
    with pytest.raises(InputError, match=r"peaks\.scales\.1 = 100: .*multiple of 32"):
        parameters(scales=[96, 100])


def test_class_maps_take_the_place_of_peak_response_maps(network, image):
    """A peak's response is the positive part of its class map, of sum 1."""
    expected = locate(network, image, [0, 1], parameters())
    found = locate(network, image, [0, 1], parameters(response="class"))
    for label in (0, 1):  # which pixel of a plateau is a peak depends on rounding
        highest = expected.value[expected.label == label].max()
        assert found.value[found.label == label].max() == pytest.approx(highest, abs=1e-3)
    with torch.no_grad():
        maps = F.interpolate(network(as_input(network, image)), (24, 24), mode="bilinear")
    positive = maps[0].clamp(min=0).numpy()[found.label]
    total = positive.sum((1, 2), keepdims=True).clip(min=1e-30)
    np.testing.assert_allclose(found.response, positive / total, rtol=1e-3, atol=1e-6)


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    return Prm(DESCRIPTION.model_copy(update={"backbone": "test_vit"}), "none").eval()


def test_peaks_of_a_vision_transformer(transformer, image):
    """At other sizes than that of training, too."""
    found = locate(
        transformer, image, [0, 1], parameters(response="class", scales=[96, 160], flip=True)
    )
    assert set(found.label.tolist()) == {0, 1}
    assert found.response.shape == (len(found.label), 24, 24)
    assert found.y.max() < image.shape[0]
    assert found.x.max() < image.shape[1]


def test_self_attention_has_no_peak_response(transformer, image):
    with pytest.raises(InputError, match=r"peaks.response = 'peak': backbone test_vit .*'class'"):
        locate(transformer, image, [0], parameters())


def test_a_scale_that_patches_do_not_fill_is_refused(transformer, image):
    transformer.backbone.stride = 14
    with pytest.raises(InputError, match="patches of 14 pixels do not fill an image of 160; 224"):
        as_input(transformer, image, 160)
