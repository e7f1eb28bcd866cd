"""What the packages of pipeline/ may import, and what none of them may know."""

import ast
import re

from tests.support import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()


def imported(file):
    """The modules and names that a file imports, inside of functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def packages_of(file):
    """The packages of pipeline/ that a file imports."""
    return {name.split(".")[1] for name in imported(file) if name.startswith("pipeline.")}


def test_packages_import_what_the_table_in_contributing_allows():
    """Each only packages of the rows above it, so that there is no circle."""
    rows = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", GUIDE, re.MULTILINE)
    names = [name for name, _ in rows]
    assert {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")} == set(names)
    for number, (name, text) in enumerate(rows):
        allowed = set(re.findall(r"`(\w+)`", text)) & set(names[:number])
        for file in (ROOT / "pipeline" / name).rglob("*.py"):
            assert packages_of(file) <= allowed | {name}, file


def test_the_library_knows_neither_dvc_nor_the_paths_of_data():
    for file in (ROOT / "pipeline").rglob("*.py"):
        others = ("dvc", "stages", "wise", "benchmarks")
        assert not [name for name in imported(file) if name.startswith(others)], file
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(("data/", "params.yaml")), (file, node.value)
