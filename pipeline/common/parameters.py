"""The base of every stage's parameter model: frozen, strict, and clear about what it refuses."""

import difflib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.common.errors import InputError


class Parameters(BaseModel):
    """Settings of one stage. Unknown keys, wrong types and impossible values are refused.

    `renamed` maps the names that keys had in earlier versions to their names today.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    renamed: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def parse(cls, values: Any, where: str) -> Self:
        """Validate `values` (a mapping as YAML gives it); `where` names it in messages.

        Raises
        ------
        InputError
            One line for the first thing that is wrong: its key, its value, what is allowed.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"{where}: a mapping of settings is needed, not {values!r}")
        try:
            # JSON is where pydantic's strict mode still reads lists as tuples.
            return cls.model_validate_json(json.dumps(values))
        except ValidationError as error:
            raise InputError(_first_fault(cls, error, where)) from None


def _first_fault(model: type[Parameters], error: ValidationError, where: str) -> str:
    # An unknown key is often the reason why another is missing.
    fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    # Steps that are not keys name the branch of a union; a reader of params.yaml knows none.
    location = [str(step) for step in fault["loc"]]
    key = ".".join([where, *location])
    if fault["type"] == "extra_forbidden":
        return f"{key}: {_unknown(_model_at(model, location[:-1]), location[-1])}"
    if fault["type"] == "missing":
        return f"{key}: missing"
    message = fault["msg"].removeprefix("Value error, ")
    # What a model checks as a whole has its whole section for a value, which says nothing.
    value = "" if isinstance(fault["input"], dict) else f" = {fault['input']!r}"
    return f"{key}{value}: {message[0].lower()}{message[1:]}"


def _model_at(model: type[Parameters], path: list[str]) -> type[Parameters]:
    for step in path:
        annotation = model.model_fields[step].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, Parameters)
        model = annotation
    return model


def _unknown(model: type[Parameters], key: str) -> str:
    if key in model.renamed:
        return f"now {model.renamed[key]}"
    names = list(model.model_fields)
    near = difflib.get_close_matches(key, names, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"unknown parameter; {guess}allowed: {', '.join(names)}"
