"""`wise parameters`: every parameter, as docs/parameters.md shows them."""

import importlib
from pathlib import Path

import typer
from ruamel.yaml import YAML

from pipeline.parameters import Parameters
from pipeline.reference import parameter_table
from wise.project import root

_INTRODUCTION = """# Parameters

Written by `wise parameters > docs/parameters.md` from the models in `pipeline/`. The defaults
are those of `presets/scenes.yaml`; `dvc exp run -S stage.key=value` changes one.
"""


def parameters() -> None:
    """Print all parameters with default, range and effect.

    In Markdown, as docs/parameters.md has them.

    Example: wise parameters > docs/parameters.md
    """
    typer.echo(reference(root()), nl=False)


def reference(project: Path) -> str:
    """The text of docs/parameters.md."""
    defaults = YAML(typ="safe").load((project / "presets" / "scenes.yaml").read_text())
    tables = [
        f"\n## {stage}\n\n{parameter_table(_model(stage), values)}"
        for stage, values in defaults.items()
    ]
    return _INTRODUCTION + "".join(tables)


def _model(stage: str) -> type[Parameters]:
    """The parameter model of a stage: the class of its module that is called after it."""
    module = importlib.import_module(f"pipeline.{stage}")
    wanted = f"{stage.replace('_', '')}parameters"
    (found,) = [value for name, value in vars(module).items() if name.lower() == wanted]
    model: type[Parameters] = found
    return model
