"""Peak back-propagation against its definition."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.classifier.network import Prm, PrmDescription
from pipeline.classifier.peak_response import PeakBackpropagation


def peak_responses(network, image, peaks, stride, together=False):
    """The response maps of peaks (n, 3) of one image."""
    peaks = torch.nn.functional.pad(peaks, (1, 0))
    return PeakBackpropagation(network, image).responses(peaks, stride, together)


def two_layers():
    """A 2x2 convolution with a ReLU over a 3x3 image, then 1x1 to one class."""
    network = nn.Sequential(
        nn.Conv2d(1, 1, 2, bias=False), nn.ReLU(), nn.Conv2d(1, 1, 1, bias=False)
    )
    network[0].weight.data = torch.tensor([[[[1.0, -2.0], [3.0, 0.0]]]])
    network[2].weight.data = torch.tensor([[[[2.0]]]])
    return network


def test_two_layers_worked_by_hand():
    image = torch.tensor([[[[2.0, 1.0, 5.0], [4.0, 1.0, 2.0], [3.0, 6.0, 1.0]]]])
    # First layer, cell (0, 0): 2 - 2 + 12 = 12; it is positive, so the ReLU passes gradients.
    # Top: one input cell a peak, inputs [12, ...] less their minimum. The first layer gives
    #   (0,0) 2-2+12=12  (0,1) 1-10+3=-6 -> 0  (1,0) 4-2+9=11  (1,1) 1-4+18=15
    # minimum 0, so the cell (0, 0) hands down 12 * (1 / (2 * 12)) * 2 = 1.
    # First layer: image less 1 is [[1, 0, 4], [3, 0, 1], [2, 5, 0]]; positive weights
    # [[1, 0], [3, 0]]; normaliser at (0, 0): 1 * 1 + 3 * 3 = 10.
    # Shares: (0, 0): 1 * 1 / 10 = 0.1; (1, 0): 3 * 3 / 10 = 0.9; the negative weight none.
    expected = torch.zeros(3, 3)
    expected[0, 0], expected[1, 0] = 0.1, 0.9
    response = peak_responses(two_layers(), image, torch.tensor([[0, 0, 0]]), stride=1)
    torch.testing.assert_close(response[0], expected, rtol=1e-5, atol=1e-6)


def definition(layers, image, top):
    """PRM's rule, cell by cell, for convolutions without padding and ReLUs, float64."""
    inputs = [image]
    for layer in layers:
        if layer == "relu":
            inputs.append(np.maximum(inputs[-1], 0))
            continue
        weight, stride = layer
        below, (_, _, k, _) = inputs[-1], weight.shape
        side = (below.shape[1] - k) // stride + 1
        out = np.zeros((len(weight), side, side))
        for o, y, x in np.ndindex(out.shape):
            window = below[:, y * stride : y * stride + k, x * stride : x * stride + k]
            out[o, y, x] = (window * weight[o]).sum()
        inputs.append(out)
    above = np.zeros_like(inputs[-1])
    above[top] = 1
    for layer, below in zip(reversed(layers), reversed(inputs[:-1]), strict=True):
        if layer == "relu":
            above = above * (below > 0)
            continue
        weight, stride = layer
        k = weight.shape[2]
        shifted, positive = below - below.min(), np.maximum(weight, 0)
        share = np.zeros_like(below)
        for o, y, x in np.ndindex(above.shape):
            rows, columns = slice(y * stride, y * stride + k), slice(x * stride, x * stride + k)
            part = shifted[:, rows, columns] * positive[o]
            share[:, rows, columns] += above[o, y, x] * part / (part.sum() + 1e-10)
        above = share
    return above


@pytest.mark.parametrize("stride", [1, 2])
def test_a_random_network_against_the_definition(stride):
    generator = torch.Generator().manual_seed(stride)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 2, bias=False)
    ).double()
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    image = torch.randn(1, 3, 9, 9, generator=generator, dtype=torch.float64)
    layers = [(network[0].weight.detach().numpy(), stride), "relu"]
    layers.append((network[2].weight.detach().numpy(), 1))
    for peak in [(0, 1, 1), (1, 0, 2)]:
        expected = definition(layers, image[0].numpy(), peak).sum(0).clip(0)
        response = peak_responses(network, image, torch.tensor([peak]), stride=1)[0].numpy()
        np.testing.assert_allclose(response, expected / expected.sum(), rtol=1e-6, atol=1e-9)


def test_the_network_is_as_before_afterwards():
    network = two_layers()
    image = torch.rand(1, 1, 3, 3, requires_grad=True)
    before = torch.autograd.grad(network(image).sum(), image)[0]
    peak_responses(network, image, torch.tensor([[0, 0, 0]]), stride=1)
    torch.testing.assert_close(torch.autograd.grad(network(image).sum(), image)[0], before)


def test_padding_and_depthwise_convolutions_of_a_real_trunk():
    """What lies far from a peak's receptive field does not respond; the shape is the image's."""
    description = PrmDescription(
        backbone="tf_efficientnet_lite0", classes=("a", "b"), image_size=96, upsample=8
    )
    network = Prm(description, weights="package").eval()
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    peaks = torch.tensor([[0, 3, 3], [1, 20, 20]])
    responses = peak_responses(network, image, peaks, stride=4)
    assert responses.shape == (2, 24, 24)
    torch.testing.assert_close(responses.sum((1, 2)), torch.ones(2))
    assert (responses >= 0).all()
    rows = torch.arange(24.0)
    centres = (responses.sum(2) * rows).sum(1)
    assert centres[0] < centres[1]


def test_no_peaks_no_maps():
    network = two_layers()
    none = torch.zeros((0, 3), dtype=torch.int64)
    assert peak_responses(network, torch.rand(1, 1, 3, 3), none, stride=1).shape == (0, 3, 3)


class PlainRule(torch.autograd.Function):
    """PRM's rule as it is written, everything computed again in every backward pass."""

    @staticmethod
    def forward(ctx, convolution, below):
        ctx.convolution = convolution
        ctx.save_for_backward(below)
        return type(convolution).forward(convolution, below)

    @staticmethod
    def backward(ctx, above):
        (below,) = ctx.saved_tensors
        shifted = (below - below.min()).requires_grad_()
        positive = copy.deepcopy(ctx.convolution)
        positive.weight.data.clamp_(min=0)
        positive.bias = None
        with torch.enable_grad():
            total = type(positive).forward(positive, shifted)
        (spread,) = torch.autograd.grad(total, shifted, above / (total.detach() + 1e-10))
        return None, spread * shifted.detach()


def by_the_definition(network, image, peak):
    """The response map of one peak: a forward and a backward pass of its own."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.forward = partial(PlainRule.apply, module)
    image = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(image)[0][tuple(peak)], image)
    response = gradient[0].sum(0).clamp(min=0)
    return response / response.sum()


@pytest.mark.parametrize(
    ("backbone", "weights"), [("tf_efficientnet_lite0", "package"), ("resnet50", "none")]
)
def test_real_trunks_against_the_definition(backbone, weights):
    """Two images at once, three peaks: as each alone, to 1e-5 of a map's highest value.

    Whether peaks go back one by one or together.
    """
    torch.manual_seed(0)
    description = PrmDescription(backbone=backbone, classes=("a", "b"), image_size=64, upsample=4)
    network = Prm(description, weights=weights).eval().double()
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    peaks = torch.tensor([[1, 0, 2, 3], [0, 1, 5, 6], [1, 1, 7, 0]])
    way = PeakBackpropagation(network, images)
    torch.testing.assert_close(way.maps, network(images).detach())
    one_by_one, together = (way.responses(peaks, 1, together) for together in (False, True))
    for row, (image, *peak) in enumerate(peaks.tolist()):
        expected = by_the_definition(network, images[image : image + 1], peak)
        for responses in (one_by_one, together):
            assert (responses[row] - expected).abs().max() < 1e-5 * expected.max()
