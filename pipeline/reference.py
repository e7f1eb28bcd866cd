"""A table of the parameters, from their models: default, range, effect."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

_BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "multipleOf": "a multiple of",
}
_HEAD = "| key | default | allowed | effect |\n|---|---|---|---|\n"


def parameter_table(model: type[BaseModel], defaults: Mapping[str, Any]) -> str:
    """Write the parameters of a stage as a Markdown table, nested ones by dotted keys."""
    return _HEAD + "".join(_rows(model, defaults, ""))


def _rows(model: type[BaseModel], defaults: Mapping[str, Any], prefix: str) -> Iterator[str]:
    schemas = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        inner = _model(field.annotation)
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


def _model(annotation: Any) -> type[BaseModel] | None:
    kinds = [annotation, *get_args(annotation)]
    found = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return found[0] if found else None


def _allowed(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in a few words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(choice) for choice in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        return f"list of {_allowed(schema.get('items', {}))}"
    bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    return f"{schema.get('type', '')} {' and '.join(bounds)}".strip()
