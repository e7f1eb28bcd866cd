"""Settings of the stage `proposals`: which method, and the settings of each."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.common.parameters import Parameters
from pipeline.proposals.grouping import GroupingParameters
from pipeline.proposals.sam import DOWNLOAD, SamParameters
from pipeline.proposals.sharpmask.inference import PyramidParameters


class ProposalsParameters(Parameters):
    """Settings of the stage `proposals`."""

    renamed: ClassVar[Mapping[str, str]] = {
        "count": "max_proposals",
    }

    method: Literal["sharpmask", "grouping", "sam", "import"] = Field(
        description="method that computes the proposals"
    )
    source: str = Field(
        min_length=1,
        description="for sharpmask: its weights, from the stage sharpmask or elsewhere; for "
        "sam: a folder with a SAM 2; for import: a folder with train.json and val.json (COCO "
        "format); unused for grouping",
    )
    supervision: str = Field(
        description="for import: what the masks' method was trained on, in words; for sam: the "
        "same, if the weights are not as published; otherwise empty"
    )
    max_proposals: int = Field(ge=1, description="maximum number of proposals per image")
    sharpmask: PyramidParameters = Field(description="settings of the method sharpmask")
    grouping: GroupingParameters = Field(description="settings of the method grouping")
    sam: SamParameters = Field(  # by default as in files of detectors that were written without
        SamParameters(points_per_side=32, nms_threshold=0.7),
        description="settings of the method sam",
    )

    @model_validator(mode="after")
    def _fitting_source(self) -> Self:
        are_weights = self.source.endswith(".safetensors")
        if self.method == "sharpmask" and not are_weights:
            raise ValueError(f"the method sharpmask needs .safetensors, not {self.source}")
        if self.method == "sam" and are_weights:
            raise ValueError(
                f"the method sam needs a folder with a SAM 2, not {self.source}; for example: "
                f"{DOWNLOAD}"
            )
        if self.method == "import" and are_weights:
            raise ValueError(
                f"the method import needs a folder with train.json and val.json, not {self.source}"
            )
        return self

    @model_validator(mode="after")
    def _stated_supervision(self) -> Self:
        if self.method == "import" and not self.supervision.strip():
            raise ValueError(
                "supervision is missing: say in words what the method of the imported masks was "
                "trained on; every table repeats it"
            )
        if self.method in ("sharpmask", "grouping") and self.supervision:
            raise ValueError(
                f"supervision must be empty: that of the method {self.method} is known"
            )
        return self
