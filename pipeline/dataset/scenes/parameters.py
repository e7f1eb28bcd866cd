"""Settings of the stage `scenes`."""

from pydantic import Field, NonNegativeInt

from pipeline.common.parameters import Parameters


class ScenesParameters(Parameters):
    """How many scenes are generated; none where the photographs are others."""

    train: NonNegativeInt = Field(description="images of the training list")
    val: NonNegativeInt = Field(description="images of the evaluation list")
    source: NonNegativeInt = Field(description="images for training the proposal network")
    seed: NonNegativeInt = Field(description="of the generator")
