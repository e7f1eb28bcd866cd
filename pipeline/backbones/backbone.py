"""Feature extraction with any timm backbone."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from pipeline.backbones.pretrained import create_backbone, is_vision_transformer
from pipeline.common.errors import InputError, first_line


class NormalizingBackbone(nn.Module):
    """Layers of a timm model that take images with values from 0 to 1."""

    mean: Tensor
    std: Tensor

    def normalize_by(self, mean: list[float], std: list[float]) -> None:
        """Set the mean and standard deviation of each channel of the model's input."""
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def normalized(self, images: Tensor) -> Tensor:
        """Normalize images, float (n, 3, h, w), 0 to 1."""
        return (images - self.mean) / self.std


class _TimmBackbone(NormalizingBackbone):
    """A whole timm model."""

    def __init__(self, name: str, weights: str, features_only: bool) -> None:
        super().__init__()
        self.body, mean, std = create_backbone(name, weights, features_only)
        self.normalize_by(mean, std)

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Compute the feature maps that the model returns."""
        raise NotImplementedError

    def _try(self, name: str, channels: list[int], strides: tuple[int, ...]) -> None:
        """Raise InputError if the maps do not have these numbers of channels and strides."""
        height, width = 3 * max(strides), 4 * max(strides)
        wanted = [
            (1, count, height // stride, width // stride)
            for count, stride in zip(channels, strides, strict=True)
        ]
        self.body.eval()  # no statistics move
        try:
            with torch.no_grad():
                given = [tuple(map_.shape) for map_ in self._maps(torch.zeros(1, 3, height, width))]
        except Exception as error:  # timm's models have no one error for a size they do not take
            raise InputError(
                f"backbone {name}: not for images of any size ({first_line(error)})"
            ) from None
        self.body.train()
        if given != wanted:
            raise InputError(f"backbone {name}: feature maps {given} instead of {wanted}")


class Backbone(_TimmBackbone):
    """A timm backbone that returns feature maps of several strides.

    Layers that no map needs are left out: of an EfficientNet its last convolution, for example,
    which `WholeBackbone` has.

    Parameters
    ----------
    name : a timm model with `features_only` support, for images of any size whose sides are
        multiples of the largest stride.
    weights : `package`, `hub`, `none`, or the path of a state dict.
    strides : strides of the feature maps to return, in pixels of the image, ascending.

    Attributes
    ----------
    channels : number of channels of each feature map that is returned.

    Raises
    ------
    InputError
        If the model is unknown, lacks one of the strides, takes images of one size only, returns
        other maps than those, or its weights cannot be loaded.
    """

    def __init__(self, name: str, weights: str, strides: tuple[int, ...]) -> None:
        super().__init__(name, weights, features_only=True)
        reductions = list(self.body.feature_info.reduction())
        missing = [stride for stride in strides if stride not in reductions]
        if missing:
            raise InputError(f"backbone {name}: no features at stride {missing[0]}; {reductions}")
        self._levels = [reductions.index(stride) for stride in strides]
        _drop_after(self.body, self._levels[-1])
        channels = self.body.feature_info.channels()
        self.channels = [int(channels[level]) for level in self._levels]
        self._try(name, self.channels, strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute feature maps.

        Parameters
        ----------
        images : float (n, 3, h, w), 0 to 1.

        Returns
        -------
        For each stride, a map of shape (n, channels, h / stride, w / stride).
        """
        return self._maps(images)

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps = self.body(self.normalized(images))
        return [maps[level] for level in self._levels]

    def freeze_batch_norm(self) -> None:
        """Freeze the statistics and affine parameters of batch norms, for small batches."""
        self.body = timm.layers.freeze_batch_norm_2d(self.body)  # type: ignore[no-untyped-call]

    def train_last_layers(self, count: int) -> None:
        """Freeze what the feature maps before the last `count` ones are computed from.

        The maps are those of the timm model, in general of the strides 2, 4, 8, 16 and 32. With 3
        of 5, as is torchvision's default `trainable_backbone_layers`, a ResNet's stem and first
        stage are frozen. No gradients are computed there. Batch norms are not frozen by this.
        """
        side = 4 * max(self.body.feature_info.reduction())
        maps = self.body(torch.zeros(1, 3, side, side))
        if count >= len(maps):
            return
        weights = [weight for weight in self.body.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(maps[-count - 1].sum(), weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.requires_grad_(gradient is None)


class WholeBackbone(_TimmBackbone):
    """All layers of a timm model up to its pooling: what ImageNet's classes were read from.

    Of a vision transformer (ViT), the features are the vectors of the patches.

    Parameters
    ----------
    name : a timm model for images of any size whose sides are multiples of the stride.
    weights : `package`, `hub`, `none`, or the path of a state dict.
    stride : of the features, in pixels of the image; that of a ViT is the side of a patch.

    Attributes
    ----------
    channels : number of channels of the features.
    stride : of the features, in pixels of the image.
    is_transformer : whether the model is a ViT.

    Raises
    ------
    InputError
        If the model is unknown, takes images of one size only, returns other features than those,
        or its weights cannot be loaded.
    """

    def __init__(self, name: str, weights: str, stride: int) -> None:
        super().__init__(name, weights, features_only=False)
        self.channels = int(self.body.num_features)
        self.is_transformer = is_vision_transformer(name)
        self.stride = self.body.patch_embed.patch_size[0] if self.is_transformer else stride
        self._try(name, [self.channels], (self.stride,))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features.

        Parameters
        ----------
        images : float (n, 3, h, w), 0 to 1.

        Returns
        -------
        float (n, channels, h / stride, w / stride).
        """
        features: Tensor = self.body.forward_features(self.normalized(images))
        if not self.is_transformer:
            return features
        patches = features[:, self.body.num_prefix_tokens :]  # after those of class and registers
        rows, columns = (side // self.stride for side in images.shape[-2:])
        return patches.transpose(1, 2).reshape(len(images), self.channels, rows, columns)

    def _maps(self, images: Tensor) -> list[Tensor]:
        return [self(images)]


def _drop_after(backbone: Any, level: int) -> None:
    """Drop the blocks after the last feature map in use, which EfficientNets would compute."""
    container, _, block = backbone.feature_info.module_name(level).partition(".")
    if container == "blocks" and hasattr(backbone, "blocks"):
        del backbone.blocks[int(block) + 1 :]
