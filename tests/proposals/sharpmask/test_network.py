import copy
from functools import partial

import pytest
import torch

from pipeline.artifacts.weights import load_weights, read_description, write_weights
from pipeline.common.errors import InputError
from pipeline.proposals.sharpmask.network import (
    MARGIN,
    PATCH,
    STRIDE,
    STRIDES,
    WINDOW,
    SharpMask,
    SharpMaskDescription,
    window_parts,
)
from tests.support.tiny import SHARPMASK as DESCRIPTION

# Further than the backbone sees to either side of a feature at stride 16.
CONTEXT = 224


@pytest.fixture(scope="module")
def network() -> SharpMask:
    torch.manual_seed(0)
    network = SharpMask(DESCRIPTION, "none").eval()
    # Initial weights hand on so little of the input that any two windows would look equal.
    with torch.no_grad():
        for parameter in network.refinement.parameters():
            parameter.mul_(3)
        for parameter in network.deepmask.encoder.parameters():
            parameter.mul_(3)
    return network


close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)


def middle(features: torch.Tensor, start: int, stride: int) -> torch.Tensor:
    """The cells of a window that begins at pixel (start, start)."""
    cells = slice(start // stride, (start + WINDOW) // stride)
    return features[:, :, cells, cells]


@torch.inference_mode()
def test_windows_of_a_whole_image_are_those_of_its_cuttings(network):
    # In float64: two threads round a whole image otherwise than a cutting, by 4e-4 in float32.
    network = copy.deepcopy(network).double()
    image = torch.rand(1, 3, PATCH + 2 * CONTEXT + 64, PATCH + 2 * CONTEXT + 48).double()
    features, code = network.deepmask(image)
    scores = network.deepmask.scores(code)[0]
    laterals = network.refinement.lateral(features)
    place = CONTEXT // STRIDE
    places = [(place, place), (place + 2, place + 1), (place + 4, place + 3)]
    ys, xs = torch.tensor(places).T
    codes = code[0][:, ys, xs].T
    masks = network.refinement(codes, window_parts(laterals, ys, xs))
    for (y, x), mask in zip(places, masks, strict=True):
        top, left = y * STRIDE - CONTEXT, x * STRIDE - CONTEXT
        side = PATCH + 2 * CONTEXT
        features = network.deepmask.backbone(image[:, :, top : top + side, left : left + side])
        alone = network.deepmask.encoder(middle(features[-1], CONTEXT + MARGIN, STRIDE))
        assert alone.shape == (1, DESCRIPTION.code_channels, 1, 1)
        close(network.deepmask.scores(alone)[0, 0, 0], scores[y, x])
        laterals_alone = [
            middle(lateral, CONTEXT, stride)
            for lateral, stride in zip(
                network.refinement.lateral(features), reversed(STRIDES), strict=True
            )
        ]
        assert mask.shape == (1, WINDOW, WINDOW)
        close(network.refinement(alone.flatten(1), laterals_alone)[0], mask)
    assert (masks[0] - masks[1]).abs().max() > 1e-2
    assert scores.std() > 1e-4


@torch.inference_mode()
def test_a_patch_is_one_window(network):
    masks, scores = network(torch.rand(2, 3, PATCH, PATCH))
    assert masks.shape == (2, 1, WINDOW, WINDOW)
    assert scores.shape == (2,)
    _, code = network.deepmask(torch.rand(2, 3, PATCH, PATCH))
    assert network.deepmask.masks(code.flatten(1)).shape == (2, 1, 56, 56)


def test_window_parts_are_slices():
    maps = [torch.rand(1, 2, 12 * 16 // s, 13 * 16 // s) for s in reversed(STRIDES)]
    parts = window_parts(maps, torch.tensor([2, 0]), torch.tensor([1, 3]))
    for whole, part, stride in zip(maps, parts, reversed(STRIDES), strict=True):
        step, side = STRIDE // stride, WINDOW // stride
        torch.testing.assert_close(part[0], whole[0, :, 2 * step :, step:][:, :side, :side])
        torch.testing.assert_close(part[1], whole[0, :, :, 3 * step :][:, :side, :side])


def test_the_trunks_batch_norm_is_frozen(network):
    for module in network.deepmask.backbone.modules():
        assert not isinstance(module, torch.nn.BatchNorm2d)


def test_it_is_rebuilt_from_its_file(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    write_weights(path, network, DESCRIPTION)
    description = read_description(path, SharpMaskDescription)
    assert description == DESCRIPTION
    rebuilt = SharpMask(description, "none").eval()
    load_weights(path, rebuilt)
    patches = torch.rand(1, 3, PATCH, PATCH)
    with torch.inference_mode():
        for expected, found in zip(network(patches), rebuilt(patches), strict=True):
            torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_a_backbone_without_stride_two_is_refused():
    with pytest.raises(InputError, match="stride"):
        SharpMask(DESCRIPTION.model_copy(update={"backbone": "convnext_atto"}), "none")
