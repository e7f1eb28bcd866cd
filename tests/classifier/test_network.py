"""Peak stimulation against a plain loop written from the paper."""

import numpy as np
import pytest
import torch

from pipeline.artifacts.weights import write_weights
from pipeline.classifier.network import Prm, PrmDescription, find_peaks, peak_scores
from pipeline.common.errors import InputError

DESCRIPTION = PrmDescription(
    backbone="tf_efficientnet_lite0", classes=("a", "b"), image_size=64, upsample=2
)


def loop_peaks(map_):
    """Pixels that no pixel of their 3x3 window exceeds, and not below the map's median."""
    height, width = map_.shape
    median = np.sort(map_.ravel())[(map_.size - 1) // 2]
    found = []
    for y in range(height):
        for x in range(width):
            window = map_[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            if map_[y, x] == window.max() and map_[y, x] >= median:
                found.append((y, x))
    return found


def test_peaks_and_scores_are_those_of_a_plain_loop():
    maps = torch.randn(3, 4, 9, 7, generator=torch.Generator().manual_seed(0))
    peaks = find_peaks(maps)
    scores = peak_scores(maps, "mean")
    for image in range(3):
        for label in range(4):
            expected = loop_peaks(maps[image, label].numpy())
            assert peaks[image, label].nonzero().tolist() == [list(place) for place in expected]
            mean = np.mean([maps[image, label, y, x].item() for y, x in expected])
            assert scores[image, label].item() == pytest.approx(mean, rel=1e-5)


def test_the_gradient_reaches_peaks_alone_and_equally():
    maps = torch.randn(1, 1, 9, 7, generator=torch.Generator().manual_seed(1), requires_grad=True)
    places = loop_peaks(maps.detach()[0, 0].numpy())
    assert len(places) > 1
    expected = torch.zeros(9, 7)
    for y, x in places:
        expected[y, x] = 1 / len(places)
    for gradient, factor in (("mean", 1), ("sum", len(places))):
        maps.grad = None
        peak_scores(maps, gradient).sum().backward()
        torch.testing.assert_close(maps.grad[0, 0], expected * factor)


def test_both_gradients_belong_to_the_same_score():
    maps = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(peak_scores(maps, "mean"), peak_scores(maps, "sum"))


def test_a_plateau_is_one_peak():
    assert find_peaks(torch.zeros(1, 1, 6, 6)).sum() == 1


def test_maps_are_magnified_stride_32_features():
    maps = Prm(DESCRIPTION, weights="none")(torch.rand(2, 3, 64, 96))
    assert maps.shape == (2, 2, 2 * 64 // 32, 2 * 96 // 32)


def test_maps_of_a_vision_transformer_have_the_stride_of_its_patches():
    network = Prm(DESCRIPTION.model_copy(update={"backbone": "test_vit"}), weights="none")
    assert network(torch.rand(2, 3, 64, 96)).shape == (2, 2, 2 * 64 // 16, 2 * 96 // 16)


def test_a_size_that_patches_do_not_fill_is_refused():
    description = DESCRIPTION.model_copy(
        update={"backbone": "vit_small_patch14_dinov2", "image_size": 256}
    )
    with pytest.raises(InputError, match="patches of 14 pixels do not fill an image of 256; 448"):
        Prm(description, weights="none")


def test_presence_is_a_linear_layer_on_averaged_features():
    network = Prm(DESCRIPTION, weights="none").eval()
    features = torch.rand(2, network.backbone.channels, 2, 3)
    weight, bias = network.presence_head.weight, network.presence_head.bias
    expected = torch.einsum("nchw,kc->nk", features, weight) / 6 + bias
    torch.testing.assert_close(network.presence_logits(features), expected)


def test_a_network_comes_back_from_its_file(tmp_path):
    network = Prm(DESCRIPTION, weights="none").eval()
    write_weights(tmp_path / "w.safetensors", network, DESCRIPTION)
    images = torch.rand(1, 3, 64, 64)
    again = Prm.load(tmp_path / "w.safetensors")
    assert again.description == DESCRIPTION
    with torch.no_grad():
        torch.testing.assert_close(again(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize("content", [None, b"rubbish"])
def test_a_file_that_is_no_classifier_is_named(tmp_path, content):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"w\.safetensors"):
        Prm.load(path)
