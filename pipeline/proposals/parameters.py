"""Settings of the stage `proposals`: which method, and the settings of each."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.common.parameters import Parameters
from pipeline.proposals.grouping import GroupingParameters
from pipeline.proposals.sharpmask.inference import PyramidParameters


class ProposalsParameters(Parameters):
    """Settings of the stage `proposals`."""

    renamed: ClassVar[Mapping[str, str]] = {
        "count": "max_proposals",
    }

    method: Literal["sharpmask", "grouping", "import"] = Field(
        description="what makes the proposals"
    )
    source: str = Field(
        min_length=1,
        description="for sharpmask: its weights, those of the stage sharpmask or others; for "
        "import: a folder with train.json and val.json (COCO format); grouping does not read it",
    )
    supervision: str = Field(
        description="for import: what the masks' maker was trained on, in words; otherwise empty"
    )
    max_proposals: int = Field(ge=1, description="most proposals of an image")
    sharpmask: PyramidParameters = Field(description="of the method sharpmask alone")
    grouping: GroupingParameters = Field(description="of the method grouping alone")

    @model_validator(mode="after")
    def _fitting_source(self) -> Self:
        are_weights = self.source.endswith(".safetensors")
        if self.method == "sharpmask" and not are_weights:
            raise ValueError(f"the method sharpmask needs .safetensors, not {self.source}")
        if self.method == "import" and are_weights:
            raise ValueError(
                f"the method import needs a folder with train.json and val.json, not {self.source}"
            )
        return self

    @model_validator(mode="after")
    def _stated_supervision(self) -> Self:
        if self.method == "import" and not self.supervision.strip():
            raise ValueError(
                "supervision is missing: say in words what the maker of the imported masks was "
                "trained on; every table repeats it"
            )
        if self.method != "import" and self.supervision:
            raise ValueError(
                f"supervision is stated for import alone; the method {self.method} knows its own"
            )
        return self
