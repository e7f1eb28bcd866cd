"""What every stage script does first: read its parameters, report its errors in one line."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

from pipeline import runtime
from pipeline.errors import InputError
from pipeline.parameters import Parameters

PARAMETERS_FILE = Path("params.yaml")

Model = TypeVar("Model", bound=Parameters)


def read_parameters(model: type[Model], stage: str) -> Model:
    """The section of params.yaml that belongs to a stage, validated."""
    try:
        sections = yaml.safe_load(PARAMETERS_FILE.read_text())
    except FileNotFoundError:
        raise InputError(f"{PARAMETERS_FILE}: missing; run in the folder of dvc.yaml") from None
    except yaml.YAMLError as error:
        raise InputError(f"{PARAMETERS_FILE}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(sections, dict) or stage not in sections:
        raise InputError(f"{PARAMETERS_FILE}: {stage}: missing")
    return model.parse(sections[stage], stage)


def run(stage: Callable[[], None]) -> None:
    """Run a stage as a script: exit status 1 and one line for what a user can mend."""
    runtime.keep_freed_memory()
    try:
        stage()
    except InputError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
