"""`wise preset`: writes params.yaml from a preset."""

from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from pipeline.common.errors import InputError
from wise.project import root

DEFAULT = "scenes"
BASE = "extends"  # the key that names the preset that this one changes


def preset(
    name: Annotated[str, typer.Argument(help="Name of a file in presets/, without .yaml.")],
) -> None:
    """Write a preset into params.yaml.

    A preset changes the default, or the preset that it extends.

    Example: wise preset voc2012-animals
    """
    write_preset(name, root())
    typer.echo(f"params.yaml: {name}; next: dvc repro")


def write_preset(name: str, project: Path) -> None:
    """Replace the project's params.yaml by a preset.

    Raises
    ------
    InputError
        If there is no such preset, or it has an unknown parameter.
    """
    write_parameters(_read_preset(name, project / "presets"), project)


def _read_preset(name: str, folder: Path) -> Any:
    """Read a preset: the one that it extends, or the default, with its changes."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(f"no preset {name}; there are {', '.join(known)}")
    if name == DEFAULT:
        return YAML().load((folder / f"{DEFAULT}.yaml").read_text())
    changes = YAML(typ="safe").load((folder / f"{name}.yaml").read_text())
    parameters = _read_preset(changes.pop(BASE, DEFAULT), folder)
    _merge(parameters, changes, f"presets/{name}.yaml")
    return parameters


def write_parameters(parameters: Any, project: Path) -> None:
    """Write params.yaml atomically, keeping comments."""
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
        elif value != into[key]:  # unchanged values keep their formatting
            into[key] = value
