"""A timm classifier cut in two: layers that are shared by an image, and layers per region."""

from typing import Any

import timm
import torch
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import ResNet
from timm.models.vgg import VGG
from torch import Tensor, nn

from pipeline.backbones.backbone import NormalizingBackbone
from pipeline.backbones.pretrained import create_backbone
from pipeline.common.errors import InputError

REGION_CELLS = 7  # per side, of the features that are pooled for a region


class RegionBackbone(NormalizingBackbone):
    """Features of an image, and of its regions (Fast R-CNN; Kim et al., WACV 2021, section 4.1).

    EfficientNet: shared to stride 16; the last blocks and the last convolution per region.
    ResNet: shared to stride 16 (res4); res5 per region. VGG: shared to conv5, of stride 8 since
    the fourth pooling is left out and conv5 is dilated; fc6 and fc7 per region.

    Parameters
    ----------
    name : a timm model of one of these families. Its batch norm is frozen.
    weights : `package`, `hub`, `none`, or the path of a state dict.
    frozen_levels : number of shared levels, from the image on, that are not trained.

    Attributes
    ----------
    strides : of the feature map of each shared level, in pixels of the image.
    level_channels : number of channels of each feature map.
    channels : number of channels of the features of a region.

    Raises
    ------
    InputError
        If the model is unknown, of another family, or its weights cannot be loaded.
    """

    def __init__(self, name: str, weights: str, frozen_levels: int = 0) -> None:
        super().__init__()
        model, mean, std = create_backbone(name, weights, features_only=False)
        levels, last = _cut(model, name)
        self.levels = _without_batch_norm(nn.ModuleList(levels))
        self.last = _without_batch_norm(last)
        for level in self.levels[:frozen_levels]:
            level.requires_grad_(requires_grad=False)
        self.normalize_by(mean, std)
        with torch.no_grad():
            side = 128
            maps = self(torch.zeros(1, 3, side, side))
            pooled = torch.zeros(1, maps[-1].shape[1], REGION_CELLS, REGION_CELLS)
            self.channels = int(self.of_regions(pooled).shape[1])
        self.strides = [side // level.shape[2] for level in maps]
        self.level_channels = [int(level.shape[1]) for level in maps]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the shared feature maps.

        Parameters
        ----------
        images : float (n, 3, h, w), 0 to 1; h and w are multiples of the largest stride.

        Returns
        -------
        For each level, a map of shape (n, channels, h / stride, w / stride).
        """
        features, maps = self.normalized(images), []
        for level in self.levels:
            features = level(features)
            maps.append(features)
        return maps

    def of_regions(self, pooled: Tensor) -> Tensor:
        """From features of the last level, pooled to (r, channels, 7, 7), to those of regions.

        Returns
        -------
        (r, channels, h, w); 4 x 4 cells of EfficientNet and ResNet, one cell of VGG.
        """
        features: Tensor = self.last(pooled)
        return features


def _cut(model: nn.Module, name: str) -> tuple[list[nn.Module], nn.Module]:
    """Cut a model into the shared levels and the layers per region."""
    for family, cut in (
        (EfficientNet, _cut_efficientnet),
        (ResNet, _cut_resnet),
        (VGG, _cut_vgg),
    ):
        if isinstance(model, family):
            return cut(model)
    raise InputError(
        f"backbone {name}: cannot be cut into shared layers and layers per region; an "
        "EfficientNet, ResNet or VGG of timm is needed"
    )


def _cut_efficientnet(model: Any) -> tuple[list[nn.Module], nn.Module]:
    blocks, (eighth, sixteenth) = list(model.blocks), _ends(model, 8, 16)
    shared = (
        [model.conv_stem, model.bn1, *blocks[:eighth]],
        blocks[eighth:sixteenth],
    )
    last = nn.Sequential(*blocks[sixteenth:], model.conv_head, model.bn2)
    return [nn.Sequential(*level) for level in shared], last


def _cut_resnet(model: Any) -> tuple[list[nn.Module], nn.Module]:
    stem = (model.conv1, model.bn1, model.act1, model.maxpool)
    return [nn.Sequential(*stem, model.layer1, model.layer2), model.layer3], model.layer4


def _cut_vgg(model: Any) -> tuple[list[nn.Module], nn.Module]:
    layers, (third, fourth, fifth) = list(model.features), _ends(model, 4, 8, 16)
    dilated = layers[fourth + 1 : fifth]  # without the pooling before
    for layer in dilated:
        if isinstance(layer, nn.Conv2d):
            layer.dilation = layer.padding = (2, 2)
    shared = (layers[:third], layers[third:fourth], dilated)
    return [nn.Sequential(*level) for level in shared], model.pre_logits


def _ends(model: Any, *strides: int) -> list[int]:
    """Return the position after the last layer or block of each stride, as timm counts them."""
    ends = {info["reduction"]: info["module"].split(".")[-1] for info in model.feature_info}
    return [int(ends[stride]) + 1 for stride in strides]


def _without_batch_norm(layers: Any) -> Any:
    """Freeze the statistics and affine parameters of batch norms: batches are single images."""
    return timm.layers.freeze_batch_norm_2d(layers)  # type: ignore[no-untyped-call]
