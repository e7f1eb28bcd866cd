"""`wise parameters`: the reference of all parameters, docs/parameters.md."""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import BaseModel

from pipeline.common.parameters import Parameters
from stages.common.yaml_files import read_yaml
from wise.project import root

_INTRODUCTION = """# Parameters

Written by `wise parameters > docs/parameters.md` from the models in `pipeline/`. The defaults
are those of `presets/scenes.yaml`; `dvc exp run -S stage.key=value` changes one. Values in
parentheses are those of the papers, or of torchvision.
"""

_BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "multipleOf": "a multiple of",
}
_HEAD = "| key | default | allowed | effect |\n|---|---|---|---|\n"


def parameters() -> None:
    """Print all parameters with default, range and effect.

    The output is docs/parameters.md.

    Example: wise parameters > docs/parameters.md
    """
    typer.echo(reference(root()), nl=False)


def reference(project: Path) -> str:
    """Return the text of docs/parameters.md."""
    defaults = read_yaml(project / "presets" / "scenes.yaml")
    tables = [
        f"\n## {stage}\n\n{parameter_table(model(stage), values)}"
        for stage, values in defaults.items()
    ]
    return _INTRODUCTION + "".join(tables)


def model(stage: str) -> type[Parameters]:
    """The parameter model of a stage: its script imports it, and it is named after the stage."""
    module = importlib.import_module(f"stages.{stage}")
    wanted = f"{stage.replace('_', '')}parameters"
    (found,) = [value for name, value in vars(module).items() if name.lower() == wanted]
    parameters_of_stage: type[Parameters] = found
    return parameters_of_stage


def parameter_table(model: type[BaseModel], defaults: Mapping[str, Any]) -> str:
    """Write the parameters of a stage as a Markdown table, nested ones by dotted keys."""
    return _HEAD + "".join(_rows(model, defaults, ""))


def _rows(model: type[BaseModel], defaults: Mapping[str, Any], prefix: str) -> Iterator[str]:
    schemas = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        inner = _nested_model(field.annotation)
        if inner is not None:
            yield from _rows(inner, defaults[name], f"{prefix}{name}.")
            continue
        cells = (
            f"`{prefix}{name}`",
            f"`{defaults[name]}`",
            _allowed(schemas[name]),
            field.description or "",
        )
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    kinds = [annotation, *get_args(annotation)]
    found = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return found[0] if found else None


def _allowed(schema: Mapping[str, Any]) -> str:
    """Describe the values that a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(_allowed(choice) for choice in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        return f"list of {_allowed(schema.get('items', {}))}"
    bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    return f"{schema.get('type', '')} {' and '.join(bounds)}".strip()
