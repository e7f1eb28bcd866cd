"""`wise preset`: writes params.yaml from a preset."""

from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from pipeline.common.errors import InputError
from stages.common.yaml_files import read_yaml
from wise.project import root

DEFAULT = "scenes"
BASE = "extends"  # the key that names the preset to change


def preset(
    name: Annotated[str, typer.Argument(help="Name of a file in presets/, without .yaml.")],
) -> None:
    """Write a preset to params.yaml.

    A preset consists of changes to the default preset, or to the preset that it extends.

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
    parameters = _defaults(project / "presets")
    for path, changes in reversed(_changes(name, project / "presets")):
        _merge(parameters, changes, f"presets/{path.name}")
    write_parameters(parameters, project)


def _defaults(folder: Path) -> Any:
    """Read the default preset with its comments."""
    path = folder / f"{DEFAULT}.yaml"
    read_yaml(path)  # raises an error with one line
    return YAML().load(path.read_text(encoding="utf-8"))


def _changes(name: str, folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Read a preset and those that it extends, itself first, without the default."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    read: dict[Path, dict[str, Any]] = {}
    while name != DEFAULT:
        if name not in known:
            raise InputError(f"no preset {name}; available: {', '.join(known)}")
        path = folder / f"{name}.yaml"
        if path in read:
            raise InputError(f"presets/{path.name}: extends itself, directly or through others")
        read[path] = read_yaml(path)
        name = read[path].pop(BASE, DEFAULT)
    return list(read.items())


def write_parameters(parameters: Any, project: Path) -> None:
    """Write params.yaml atomically, keeping comments."""
    yaml = YAML()
    yaml.width = 100
    target = project / "params.yaml"
    unfinished = target.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        yaml.dump(parameters, file)
    unfinished.replace(target)


def _merge(into: Any, changes: dict[str, Any], where: str) -> None:
    for key, value in changes.items():
        if key not in into:
            raise InputError(f"{where}: {key} is not a parameter")
        if isinstance(value, dict) != isinstance(into[key], dict):
            wanted = "a section of parameters" if isinstance(into[key], dict) else "a single value"
            raise InputError(f"{where}: {key}: {wanted} is needed")
        if isinstance(value, dict):
            _merge(into[key], value, f"{where}: {key}")
        elif value != into[key]:  # unchanged values keep their formatting
            into[key] = value
