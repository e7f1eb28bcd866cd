"""Feature extraction with any timm backbone."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from pipeline.backbones.pretrained import create_backbone
from pipeline.common.errors import InputError


class Backbone(nn.Module):
    """A timm backbone that takes images with values from 0 to 1 and returns feature maps.

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

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: str, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.body, mean, std = create_backbone(name, weights)
        reductions = list(self.body.feature_info.reduction())
        missing = [stride for stride in strides if stride not in reductions]
        if missing:
            raise InputError(f"backbone {name}: no features at stride {missing[0]}; {reductions}")
        self._levels = [reductions.index(stride) for stride in strides]
        _drop_after(self.body, self._levels[-1])
        channels = self.body.feature_info.channels()
        self.channels = [int(channels[level]) for level in self._levels]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self._try(name, strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute feature maps.

        Parameters
        ----------
        images : float (n, 3, h, w), 0 to 1.

        Returns
        -------
        For each stride, a map of shape (n, channels, h / stride, w / stride).
        """
        maps = self.body((images - self.mean) / self.std)
        return [maps[level] for level in self._levels]

    def _try(self, name: str, strides: tuple[int, ...]) -> None:
        """Raise InputError if the model does not return the maps that its strides promise."""
        height, width = 3 * max(strides), 4 * max(strides)
        wanted = [
            (1, channels, height // stride, width // stride)
            for channels, stride in zip(self.channels, strides, strict=True)
        ]
        self.body.eval()  # no statistics move
        try:
            with torch.no_grad():
                given = [tuple(level.shape) for level in self(torch.zeros(1, 3, height, width))]
        except Exception as error:  # timm's models have no one error for a size they do not take
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"backbone {name}: not for images of any size ({reason})") from None
        self.body.train()
        if given != wanted:
            raise InputError(f"backbone {name}: feature maps {given} instead of {wanted}")

    def freeze_batch_norm(self) -> None:
        """Freeze the statistics and affine parameters of batch norms, for small batches."""
        self.body = timm.layers.freeze_batch_norm_2d(self.body)  # type: ignore[no-untyped-call]


def _drop_after(backbone: Any, level: int) -> None:
    """Drop the blocks after the last feature map in use, which EfficientNets would compute."""
    container, _, block = backbone.feature_info.module_name(level).partition(".")
    if container == "blocks" and hasattr(backbone, "blocks"):
        del backbone.blocks[int(block) + 1 :]
