"""Base class of all parameter models: immutable, with strict validation and clear errors."""

import difflib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.common.errors import InputError


class Parameters(BaseModel):
    """Parameters of one stage. Unknown keys, wrong types and invalid values raise an error.

    `renamed` maps the old names of parameters to their current names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    renamed: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def parse(cls, values: Any, where: str) -> Self:
        """Validate the parameters of a stage.

        Parameters
        ----------
        values : mapping as read from YAML.
        where : name of the stage, for error messages.

        Raises
        ------
        InputError
            One line about the first invalid parameter: its key, its value, what is allowed.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"{where}: a mapping of parameters is needed, not {values!r}")
        try:
            # In strict mode, pydantic reads lists as tuples only from JSON.
            return cls.model_validate_json(json.dumps(values))
        except ValidationError as error:
            raise InputError(_first_error(cls, error, where)) from None


def _first_error(model: type[Parameters], error: ValidationError, where: str) -> str:
    # Unknown keys come first: they are often the reason why another key is missing.
    first = min(error.errors(), key=lambda details: details["type"] != "extra_forbidden")
    location = [str(step) for step in first["loc"]]
    key = ".".join([where, *location])
    if first["type"] == "extra_forbidden":
        return f"{key}: {_unknown(_model_at(model, location[:-1]), location[-1])}"
    if first["type"] == "missing":
        return f"{key}: missing"
    message = first["msg"].removeprefix("Value error, ")
    # The input of a model validator is the whole section, which would not help.
    value = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
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
