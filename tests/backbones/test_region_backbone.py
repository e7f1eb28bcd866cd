"""The layers of an image and those of a region are together the timm model."""

import pytest
import timm
import torch

from pipeline.backbones.region_backbone import RegionBackbone
from pipeline.common.errors import InputError

LITE0 = "tf_efficientnet_lite0"


@pytest.mark.parametrize(
    ("name", "strides", "level_channels", "channels"),
    [(LITE0, [8, 16], [40, 112], 1280), ("resnet18", [8, 16], [128, 256], 512)],
)
def test_all_layers_in_a_row_are_the_classifiers(tmp_path, name, strides, level_channels, channels):
    model = timm.create_model(name).eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    backbone = RegionBackbone(name, str(tmp_path / "w.pt"))
    assert (backbone.strides, backbone.level_channels) == (strides, level_channels)
    assert backbone.channels == channels
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps = backbone(images)
        expected = model.forward_features((images - backbone.mean) / backbone.std)
        torch.testing.assert_close(backbone.of_regions(maps[-1]), expected, rtol=1e-3, atol=1e-4)
    assert backbone.of_regions(torch.rand(2, level_channels[1], 7, 7)).shape == (2, channels, 4, 4)


def test_the_package_holds_the_last_convolution():
    backbone = RegionBackbone(LITE0, "package")
    assert backbone.last[-1].running_var.std() > 0.1


def test_vgg_has_a_dilated_conv5(monkeypatch):
    monkeypatch.setattr(timm.models.vgg, "ConvMlp", lambda *_, **__: torch.nn.Conv2d(512, 8, 7))
    backbone = RegionBackbone("vgg16", "none")  # fc6 would have 100 million weights
    assert (backbone.strides, backbone.level_channels) == ([4, 8, 8], [256, 512, 512])
    assert [layer.dilation for layer in backbone.levels[2][::2]] == [(2, 2)] * 3
    assert backbone.of_regions(torch.rand(2, 512, 7, 7)).shape == (2, 8, 1, 1)


def test_frozen_levels_are_not_differentiated():
    backbone = RegionBackbone(LITE0, "none", frozen_levels=1).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    first, second = backbone(torch.rand(1, 3, 64, 64))
    assert not first.requires_grad
    backbone.of_regions(second[:, :, :4, :4]).sum().backward()
    assert all(weight.grad is None for weight in backbone.levels[0].parameters())
    assert all(weight.grad is not None for weight in backbone.levels[1].parameters())
    assert before
    for name, value in backbone.named_buffers():
        assert torch.equal(value, before[name])


def test_a_model_of_another_family_is_said():
    with pytest.raises(InputError, match=r"^backbone convnext_atto: cannot be cut.*ResNet or VGG"):
        RegionBackbone("convnext_atto", "none")
