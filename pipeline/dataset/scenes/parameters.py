"""Parameters of the stage `scenes`."""

from pydantic import Field, NonNegativeInt

from pipeline.common.parameters import Parameters


class ScenesParameters(Parameters):
    """Number of generated scenes; 0 if another dataset is used."""

    train: NonNegativeInt = Field(description="images of the training list")
    val: NonNegativeInt = Field(description="images of the evaluation list")
    source: NonNegativeInt = Field(description="images for training the proposal network")
    seed: NonNegativeInt = Field(description="seed of the generated scenes")
