"""The network and its loss: every part can be left out, and bags of regions have no order."""

import numpy as np
import pytest
import torch

from pipeline.artifacts.weights import write_weights
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.community.network import Community, CommunityArchitecture
from pipeline.community.training import CommunityParameters, image_losses, sampled_regions
from tests.support.parameters import tiny_parameters
from tests.support.tiny import COMMUNITY as DESCRIPTION

IMAGE = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
BOXES = torch.tensor([[0.0, 0, 40, 50], [2, 3, 44, 52], [50, 8, 90, 60], [5, 5, 20, 64]])
TAGS = torch.tensor([True, False])
ALL = {"image", "refinement", "regression", "mask_generation", "segmentation"}


def network(**changed):
    runtime.seed_everything(0)
    architecture = DESCRIPTION.architecture.model_copy(update=changed)
    built = Community(DESCRIPTION.model_copy(update={"architecture": architecture}), "none")
    return built.train()


def parameters(**changed):
    values = tiny_parameters()["community"]
    return CommunityParameters.parse({**values, **changed}, "community")


def losses(built, boxes=BOXES, tags=TAGS, **changed):
    return image_losses(built, parameters(**changed), IMAGE, boxes, tags, 0)


def test_only_the_backbone_is_called_backbone():
    built = network()
    backbone = set(map(id, built.backbone.parameters()))
    for name, parameter in built.named_parameters():
        assert name.startswith("backbone.") == (id(parameter) in backbone)


@pytest.mark.parametrize(
    ("left_out", "terms"),
    [
        ({}, ALL),
        ({"regression": False}, ALL - {"regression"}),
        ({"segmentation": False}, ALL - {"segmentation"}),
        (
            {"regression": False, "segmentation": False, "mask_generation": False},
            {"image", "refinement"},
        ),
        ({"background_class": False, "map_normalization": "max", "smooth_features": False}, ALL),
    ],
)
def test_parts_can_be_left_out(left_out, terms):
    built = network(**left_out)
    got = losses(built)
    assert set(got) == terms
    sum(got.values()).backward()
    learning = [p for p in built.parameters() if p.requires_grad]
    assert all(torch.isfinite(p.grad).all() for p in learning if p.grad is not None)
    assert all(p.grad is not None for p in learning)


def test_the_order_of_the_regions_plays_no_part():
    built, order = network(), torch.tensor([2, 0, 3, 1])
    expected, got = losses(built), losses(built, BOXES[order])
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5)


def test_an_image_without_tags_teaches_background():
    built = network()
    got = losses(built, tags=torch.tensor([False, False]))
    assert got["regression"] == 0
    before = built.segment(levels := built.backbone(IMAGE[None] / 255), BOXES, features(built))
    optimizer = torch.optim.SGD(built.segmentation.parameters(), lr=0.1)
    got["segmentation"].backward()
    optimizer.step()
    after = built.segment(levels, BOXES, features(built))
    assert after.softmax(1)[:, 0].mean() > before.softmax(1)[:, 0].mean()


def features(built):
    return built.detect(built.backbone(IMAGE[None] / 255), BOXES).features


def test_the_third_level_of_vgg_is_a_map():
    """Three maps as VGG gives: the features per region are not upsampled."""
    built = network()
    levels = [torch.rand(1, 4, 16, 24), torch.rand(1, 5, 8, 12), torch.rand(1, 6, 8, 12)]
    built.backbone.strides = [4, 8, 8]
    built.laterals = torch.nn.ModuleList(torch.nn.Conv2d(c, 8, 1) for c in (4, 5, 6))
    built.segmentation.first = torch.nn.Conv2d(6, 8, 1)
    given = torch.rand(4, 9, 1, 1)
    assert [maps.shape for maps in built.activation_maps(levels, BOXES, given)] == [
        (4, 3, 14, 14)
    ] * 3
    assert built.segment(levels, BOXES, given).shape == (4, 3, 14, 14)


def test_rebuilt_from_its_file(tmp_path):
    built = network().eval()
    write_weights(tmp_path / "weights.safetensors", built, built.description)
    rebuilt = Community.load(tmp_path / "weights.safetensors")
    assert rebuilt.description == built.description
    with torch.inference_mode():
        one, two = (net.detect(net.backbone(IMAGE[None] / 255), BOXES) for net in (built, rebuilt))
    assert torch.equal(one.refined, two.refined)
    assert torch.equal(one.offsets, two.offsets)


def test_half_of_the_sampled_regions_are_foreground():
    label = torch.tensor([0, 2] * 20)
    some = sampled_regions(label, 10, seed=3)
    assert len(set(some.tolist())) == 10
    assert (label[some] > 0).sum() == 5
    assert torch.equal(some, sampled_regions(label, 10, seed=3))
    assert not torch.equal(some, sampled_regions(label, 10, seed=4))
    few = torch.tensor([1] * 3 + [0] * 17)
    assert (few[sampled_regions(few, 10, seed=0)] > 0).sum() == 3
    many = torch.tensor([1] * 17 + [0] * 3)
    assert (many[sampled_regions(many, 10, seed=0)] == 0).sum() == 3
    assert sampled_regions(label, 40, seed=0).tolist() == list(range(40))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mask_generation": False}, "segmentation needs mask_generation"),
        ({"background_class": False}, "softmax needs background_class; set it to max"),
        ({"mask_threshold": 1.0}, "less than 1"),
    ],
)
def test_parts_that_do_not_fit_are_said(changed, message):
    values = {**DESCRIPTION.architecture.model_dump(), **changed}
    with pytest.raises(InputError, match=f"^community.*{message}"):
        CommunityArchitecture.parse(values, "community")


def test_it_learns_the_tags():
    built = network()
    optimizer = torch.optim.AdamW([p for p in built.parameters() if p.requires_grad], lr=0.002)
    seen = []
    for _ in range(6):
        terms = losses(built)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        seen.append(float(terms["image"].detach()))
    assert np.mean(seen[-2:]) < 0.7 * seen[0]
