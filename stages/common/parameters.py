"""The parameters of a stage, from params.yaml."""

from pathlib import Path
from typing import Any, TypeVar

from pipeline.common.errors import InputError
from pipeline.common.parameters import Parameters
from stages.common.yaml_files import read_yaml

PARAMETERS_FILE = Path("params.yaml")
PIPELINE_FILE = Path("dvc.yaml")

Model = TypeVar("Model", bound=Parameters)


def read_parameters(model: type[Model], stage: str) -> Model:
    """Read and validate the section of params.yaml that belongs to a stage."""
    sections = read_yaml(PARAMETERS_FILE)
    stages = read_yaml(PIPELINE_FILE)["stages"]
    if unknown := sorted(set(sections) - set(stages)):
        raise InputError(
            f"{PARAMETERS_FILE}: {unknown[0]}: not a stage; the stages are {', '.join(stages)}"
        )
    if stage not in sections:
        raise InputError(f"{PARAMETERS_FILE}: {stage}: missing")
    return model.parse(sections[stage], stage)


def read_value(key: str) -> Any:
    """Read a single value of params.yaml by its dotted key; None if there is none.

    For a stage that depends on one key of another stage.
    """
    return lookup(read_yaml(PARAMETERS_FILE), key)


def lookup(values: dict[str, Any], key: str) -> Any:
    """Return a value of nested mappings by its dotted key; None if there is none."""
    value: Any = values
    for step in key.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value
