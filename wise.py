"""`wise`: what a person types beside `dvc`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

app = typer.Typer(no_args_is_help=True, add_completion=True, help=__doc__)

PROJECT = Path(__file__).parent
PRESETS = PROJECT / "presets"
DEFAULT = "scenes.yaml"


@app.callback()
def main() -> None:
    """Instance masks and a trained Mask R-CNN from image-level tags."""


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help="A file of presets/, without .yaml.")],
) -> None:
    """Write a preset into params.yaml: the embedded default and what the preset changes.

    Example: wise preset voc2012-animals
    """
    known = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in known:
        typer.echo(f"wise: no preset {name}; there are {', '.join(known)}", err=True)
        raise typer.Exit(1)
    yaml = YAML()
    yaml.width = 100
    target = PROJECT / "params.yaml"
    parameters = yaml.load((PRESETS / DEFAULT).read_text())
    _merge(parameters, YAML(typ="safe").load((PRESETS / f"{name}.yaml").read_text()), name)
    unfinished = target.with_suffix(".unfinished")
    with unfinished.open("w") as file:
        yaml.dump(parameters, file)
    unfinished.replace(target)
    typer.echo(f"params.yaml: {name}; next: dvc repro")


def _merge(into: Any, changes: dict[str, Any], where: str) -> None:
    for key, value in changes.items():
        if key not in into:
            typer.echo(f"wise: presets/{where}: {key} is no parameter", err=True)
            raise typer.Exit(1)
        if isinstance(value, dict):
            _merge(into[key], value, f"{where}: {key}")
        else:
            into[key] = value


if __name__ == "__main__":
    app()
