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
    min_object_size: float = Field(gt=0, description="longer side of the smallest one used, pixels")
    backbone: str = Field(description="a timm model with features at strides 2, 4, 8 and 16")
    weights: str = Field(description="of the backbone: package, hub, none, or a file")
    feature_channels: int = Field(
        ge=1, description="channels that the code of a window is made from"
    )
    code_channels: int = Field(ge=1, description="channels of the code of a window")
    score_channels: int = Field(ge=1, description="channels of the score head's hidden layer")
    lateral_channels: int = Field(ge=1, description="channels of the lateral paths' hidden layers")
    refinement_channels: int = Field(
        ge=8, multiple_of=8, description="channels of the top-down path at its start; halves thrice"
    )
    dropout: float = Field(ge=0, lt=1, description="in the score head")
    mask_loss_weight: float = Field(gt=0, description="of the mask loss beside the score loss")
    shift_jitter: float = Field(
        ge=0, description="furthest that an object is off centre, patch pixels"
    )
    scale_jitter: float = Field(ge=0, description="furthest that an object is off scale, octaves")
    aspect_jitter: float = Field(
        ge=0, le=2, description="most that a window is wider or narrower than high, octaves"
    )
    copy_paste: float = Field(
        ge=0, le=1, description="share of objects that are shown on another image's background"
    )
    negative_distance: float = Field(
        gt=0, description="least distance of a negative's centre from every object's, patch pixels"
    )
    negative_octaves: float = Field(
        gt=0, description="least difference of scale, octaves, that makes up for any distance"
    )
    min_scale: float = Field(ge=-6, le=3, description="of negatives, a power of two")
    max_scale: float = Field(ge=-6, le=3, description="of negatives, a power of two")
    color_jitter: float = Field(
        ge=0, lt=1, description="largest change of brightness, contrast and saturation, a share"
    )
    samples_per_epoch: int = Field(ge=1, description="patches that count as an epoch")
    deepmask: Schedule = Field(description="phase 1: backbone, coarse masks and scores")
    sharpening: Schedule = Field(description="phase 2: the refinement, all else frozen")
    seed: int = Field(ge=0, description="of weights, windows and jitter")
