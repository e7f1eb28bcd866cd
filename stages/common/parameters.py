"""The parameters of a stage, from params.yaml."""

from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipeline.common.errors import InputError
from pipeline.common.parameters import Parameters

PARAMETERS_FILE = Path("params.yaml")
PIPELINE_FILE = Path("dvc.yaml")

Model = TypeVar("Model", bound=Parameters)


def read_parameters(model: type[Model], stage: str) -> Model:
    """Read and validate the section of params.yaml that belongs to a stage."""
    sections = read_yaml(PARAMETERS_FILE)
    stages = read_yaml(PIPELINE_FILE)["stages"]
    if unknown := sorted(set(sections) - set(stages)):
        raise InputError(
            f"{PARAMETERS_FILE}: {unknown[0]}: no stage; there are {', '.join(stages)}"
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
    """Give a value of nested mappings by its dotted key; None if there is none."""
    value: Any = values
    for step in key.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of stages, or raise InputError."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: missing; run in the folder of dvc.yaml") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a mapping of stages is needed")
    return content
