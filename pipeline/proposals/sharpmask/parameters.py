"""Settings of the stage `sharpmask`."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from pipeline.common.parameters import Parameters
from pipeline.training.schedule import Schedule


class SharpMaskParameters(Parameters):
    """Settings of the stage `sharpmask`."""

    renamed: ClassVar[Mapping[str, str]] = {
        "smallest_object": "min_object_size",
        "features": "feature_channels",
        "code": "code_channels",
        "score": "score_channels",
        "lateral": "lateral_channels",
        "refinement": "refinement_channels",
        "mask_weight": "mask_loss_weight",
        "shift": "shift_jitter",
        "octaves": "scale_jitter",
        "stretch": "aspect_jitter",
        "transplants": "copy_paste",
        "smallest_scale": "min_scale",
        "largest_scale": "max_scale",
        "colour_jitter": "color_jitter",
    }

    path: str = Field(min_length=1, description="folder with instances.json and images/ (COCO)")
    min_object_size: float = Field(
        gt=0, description="minimum longer side of objects to train on, in pixels"
    )
    backbone: str = Field(description="a timm model with features at strides 2, 4, 8 and 16")
    weights: str = Field(description="weights of the backbone: package, hub, none, or a file")
    start: str = Field(
        min_length=1,
        description="weights of a trained SharpMask of the same widths to start from instead, or "
        "none",
    )
    feature_channels: int = Field(
        ge=1, description="channels of the features that the code of a window is computed from"
    )
    code_channels: int = Field(ge=1, description="channels of the code of a window")
    score_channels: int = Field(ge=1, description="channels of the score head's hidden layer")
    lateral_channels: int = Field(ge=1, description="channels of the lateral paths' hidden layers")
    refinement_channels: int = Field(
        ge=8,
        multiple_of=8,
        description="channels at the start of the top-down path, which halves them three times",
    )
    dropout: float = Field(ge=0, lt=1, description="dropout probability in the score head")
    mask_loss_weight: float = Field(
        gt=0, description="weight of the mask loss; the score loss has weight 1"
    )
    shift_jitter: float = Field(
        ge=0, description="largest random shift of an object from the center, in patch pixels"
    )
    scale_jitter: float = Field(
        ge=0, description="largest random change of an object's scale, in octaves"
    )
    aspect_jitter: float = Field(
        ge=0, le=2, description="largest random change of the aspect ratio, in octaves"
    )
    copy_paste: float = Field(
        ge=0, le=1, description="probability to paste an object onto another image's background"
    )
    negative_distance: float = Field(
        gt=0,
        description="minimum distance of a negative's center from all objects, in patch pixels",
    )
    negative_octaves: float = Field(
        gt=0, description="scale difference, in octaves, from which any distance is enough"
    )
    min_scale: float = Field(
        ge=-6, le=3, description="smallest scale of negatives, as an exponent of 2"
    )
    max_scale: float = Field(
        ge=-6, le=3, description="largest scale of negatives, as an exponent of 2"
    )
    color_jitter: float = Field(
        ge=0,
        lt=1,
        description="largest change of brightness, contrast and saturation, as a fraction",
    )
    samples_per_epoch: int = Field(ge=1, description="patches per epoch")
    deepmask: Schedule = Field(description="phase 1: backbone, coarse masks and scores")
    sharpening: Schedule = Field(description="phase 2: the refinement; all else is frozen")
    seed: int = Field(ge=0, description="seed of weights, windows and jitter")
