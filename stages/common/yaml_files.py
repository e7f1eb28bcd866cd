"""YAML files that people write: params.yaml, presets, dvc.yaml.

They are read as DVC reads them (YAML 1.2), but strictly: only mappings, lists, texts, numbers,
truth values and null; no key twice, no alias.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline.common import files
from pipeline.common.errors import InputError

# params.yaml has 6 KiB. This much takes a second to read, whatever it holds.
MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
# Larger integers fit neither NumPy nor torch.
MAX_INTEGER = 2**63 - 1

_STANDARD = "tag:yaml.org,2002:"
_SCALARS = ("null", "bool", "int", "float", "str")


class _StrictComposer(Composer):
    """Composes nodes, and ends at an alias or at the depth that is too much."""

    levels = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            raise InputError(f"*{event.anchor} (line {line}): an alias; write the value itself")
        if self.levels == MAX_DEPTH:
            raise InputError(f"line {line}: nested more than {MAX_DEPTH} deep")
        self.levels += 1
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of stages.

    Raises
    ------
    InputError
        If the file is missing or is not YAML, or about the first key that is there twice or has
        a value of another type.
    """
    content = files.read_text(path, MAX_BYTES, "missing; run in the folder of dvc.yaml")
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _StrictComposer
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about anchors: aliases of them are refused
            node = yaml.compose(content)
        if not isinstance(node, MappingNode):
            raise InputError("a mapping of stages is needed")
        values: dict[str, Any] = _value(node, "", yaml.constructor)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # ruamel raises various errors for invalid files
        raise InputError(f"{path}: not YAML: {_reason(error)}") from None
    return values


def _value(node: Node, key: str, constructor: Any) -> Any:
    """Return the value of a node; `key` is its dotted key, empty for the whole file."""
    kind = str(node.tag).removeprefix(_STANDARD)
    if isinstance(node, MappingNode) and kind == "map":
        pairs = _pairs(node, key)
        return {name: _value(of_key, _dotted(key, name), constructor) for name, of_key in pairs}
    if isinstance(node, SequenceNode) and kind == "seq":
        items = enumerate(node.value)
        return [_value(item, _dotted(key, str(k)), constructor) for k, item in items]
    if isinstance(node, ScalarNode) and kind in _SCALARS:
        return _scalar(node, key, kind, constructor)
    what = "a date; write it in quotes" if kind == "timestamp" else f"{kind}: not a type for a key"
    raise InputError(f"{key}: {what}")


def _pairs(node: MappingNode, key: str) -> Iterator[tuple[str, Node]]:
    met = set()
    for name, value in node.value:
        line = name.start_mark.line + 1
        if name.tag != f"{_STANDARD}str":
            if not isinstance(name, ScalarNode):
                raise InputError(f"{key}: a list or a mapping is no key (line {line})")
            raise InputError(f"{_dotted(key, name.value)}: a key must be text (line {line})")
        if name.value in met:
            raise InputError(f"{_dotted(key, name.value)}: there twice (line {line})")
        met.add(name.value)
        yield name.value, value


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _scalar(node: ScalarNode, key: str, kind: str, constructor: Any) -> Any:
    try:
        value = constructor.construct_object(node)
    except (ValueError, KeyError):  # Python reads no integer of more than 4,300 digits
        shown = node.value if len(node.value) < 40 else f"{node.value[:40]}..."
        raise InputError(f"{key}: {shown!r} cannot be read as {kind}") from None
    if kind == "int" and abs(value) > MAX_INTEGER:
        raise InputError(f"{key}: {node.value[:40]}...: the largest number is {MAX_INTEGER}")
    if kind == "str" and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise InputError(f"{key}: {value!r}: half a character (a surrogate)")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1})"
    return " ".join(str(error).split())
