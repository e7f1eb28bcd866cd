"""Weights that fit, and weights that do not."""

import pytest
import timm
import torch

from pipeline.backbones.backbone import Backbone
from pipeline.common.errors import InputError

LITE0 = "tf_efficientnet_lite0"


def test_the_package_gives_imagenet_weights_and_its_normalisation():
    backbone = Backbone(LITE0, "package", (4, 8, 16, 32)).eval()
    images = torch.rand(1, 3, 64, 64)
    maps = backbone(images)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (24, 16, 16),
        (40, 8, 8),
        (112, 4, 4),
        (320, 2, 2),
    ]
    by_hand = backbone.body((images * 255 - 127) / 128)[-1]
    torch.testing.assert_close(maps[-1], by_hand, rtol=1e-4, atol=1e-4)
    # Batch norm statistics of a trained network are far from the 0 and 1 it starts with.
    assert backbone.body.bn1.running_var.std() > 0.1


def test_a_file_of_the_same_backbone_is_loaded(tmp_path):
    backbone = timm.create_model(LITE0)
    torch.save(backbone.state_dict(), tmp_path / "w.pt")
    loaded = Backbone(LITE0, str(tmp_path / "w.pt"), (32,))
    torch.testing.assert_close(loaded.body.conv_stem.weight, backbone.conv_stem.weight)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet50", "package", "no package contains its weights.*hub, none, or the path"),
        ("no_such_net", "none", "no_such_net: unknown to timm"),
        (LITE0, "absent.pt", "absent.pt: no such file; allowed are package, hub"),
        (LITE0, "{folder}/other.pt", r"do not match backbone tf_efficientnet_lite0 \(\d+ of"),
        (LITE0, "{folder}/rubbish.pt", "rubbish.pt: cannot be read"),
    ],
)
def test_what_cannot_be_had_is_said(tmp_path, name, weights, message):
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "other.pt")
    (tmp_path / "rubbish.pt").write_bytes(b"no weights")
    with pytest.raises(InputError, match=message):
        Backbone(name, weights.format(folder=tmp_path), (32,))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_tiny_patch16_224", r"no features at stride 32; \[16, 16, 16\]"),
        ("vit_base_patch32_clip_224.openai", r"not for images of any size \(Input height"),
        ("vit_small_patch32_224", r"not for images of any size \(Input height"),
        ("mixer_s32_224", r"not for images of any size \("),
        ("swin_tiny_patch4_window7_224", r"not for images of any size \(Input height"),
        ("test_mambaout", r"feature maps \[\(1, 3, 4, \d+\)\] instead of"),
        ("eva02_tiny_patch14_224", r"no features at stride 32"),
        ("beit_base_patch16_224", r"no features at stride 32"),
        ("deit_tiny_patch16_224", r"no features at stride 32"),
    ],
)
def test_a_backbone_that_does_not_fit_is_said_in_one_line(name, message):
    with pytest.raises(InputError, match=f"^backbone {name}: {message}") as raised:
        Backbone(name, "none", (32,))
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["ghostnet_100", "convnext_atto", "mobilevit_xxs", "test_resnet"])
def test_backbones_of_other_families_work(name):
    backbone = Backbone(name, "none", (8, 32))
    assert backbone.training
    maps = backbone(torch.rand(2, 3, 96, 128))
    assert [tuple(level.shape) for level in maps] == [
        (2, channels, 96 // stride, 128 // stride)
        for channels, stride in zip(backbone.channels, (8, 32), strict=True)
    ]


def test_a_stride_that_a_trunk_lacks_is_said():
    with pytest.raises(InputError, match="no features at stride 64"):
        Backbone(LITE0, "none", (64,))
