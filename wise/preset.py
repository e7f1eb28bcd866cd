"""`wise preset`: params.yaml from one of presets/."""

from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from pipeline.errors import InputError
from wise.project import root

DEFAULT = "scenes"


def preset(
    name: Annotated[str, typer.Argument(help="A file of presets/, without .yaml.")],
) -> None:
    """Write a preset into params.yaml.

    That is the embedded default, and what the preset changes.

    Example: wise preset voc2012-animals
    """
    write_preset(name, root())
    typer.echo(f"params.yaml: {name}; next: dvc repro")


def write_preset(name: str, project: Path) -> None:
    """Replace the project's params.yaml by the default with the changes of a preset.

    Raises
    ------
    InputError
        If there is no such preset, or it changes what is no parameter.
    """
    known = sorted(path.stem for path in (project / "presets").glob("*.yaml"))
    if name not in known:
        raise InputError(f"no preset {name}; there are {', '.join(known)}")
    parameters = YAML().load((project / "presets" / f"{DEFAULT}.yaml").read_text())
    changes = YAML(typ="safe").load((project / "presets" / f"{name}.yaml").read_text())
    _merge(parameters, changes, f"presets/{name}.yaml")
    write_parameters(parameters, project)


def write_parameters(parameters: Any, project: Path) -> None:
    """Write params.yaml, comments kept, whole or not at all."""
    yaml = YAML()
    yaml.width = 100
    target = project / "params.yaml"
    unfinished = target.with_suffix(".unfinished")
    with unfinished.open("w") as file:
        yaml.dump(parameters, file)
    unfinished.replace(target)


def _merge(into: Any, changes: dict[str, Any], where: str) -> None:
    for key, value in changes.items():
        if key not in into:
            raise InputError(f"{where}: {key} is no parameter")
        if isinstance(value, dict):
            _merge(into[key], value, f"{where}: {key}")
        elif value != into[key]:  # what stays keeps its form
            into[key] = value
