"""`wise preset`: params.yaml from one of presets/."""

from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from pipeline.common.errors import InputError
from wise.project import root

DEFAULT = "scenes"
BASE = "extends"  # the key that names the preset another one changes


def preset(
    name: Annotated[str, typer.Argument(help="A file of presets/, without .yaml.")],
) -> None:
    """Write a preset into params.yaml.

    That is the embedded default, or the preset that this one extends, and what it changes.

    Example: wise preset voc2012-animals
    """
    write_preset(name, root())
    typer.echo(f"params.yaml: {name}; next: dvc repro")


def write_preset(name: str, project: Path) -> None:
    """Replace the project's params.yaml by what a preset says.

    Raises
    ------
    InputError
        If there is no such preset, or it changes what is no parameter.
    """
    write_parameters(_read_preset(name, project / "presets"), project)


def _read_preset(name: str, folder: Path) -> Any:
    """The default, or the preset that this one extends, with this one's changes."""
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
