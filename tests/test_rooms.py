"""The packages of pipeline/ stand on each other: no circle, no import from a higher floor."""

import ast

from tests.support import ROOT

FLOORS = (
    {"common"},
    {"artifacts", "backbones"},
    {"drawing", "evaluation", "execution", "training"},
    {"classifier", "community", "dataset", "proposals", "pseudo_masks", "report"},
    {"detectors"},
    {"delivery"},
)


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


def test_every_package_has_its_floor():
    packages = {path.name for path in (ROOT / "pipeline").iterdir() if list(path.glob("*.py"))}
    assert packages == set().union(*FLOORS)


def test_a_package_imports_from_lower_floors_alone():
    for number, floor in enumerate(FLOORS):
        below = set().union(*FLOORS[:number])
        for package in floor:
            for file in (ROOT / "pipeline" / package).rglob("*.py"):
                assert packages_of(file) <= below | {package}, file


def test_the_library_knows_neither_dvc_nor_the_paths_of_data():
    for file in (ROOT / "pipeline").rglob("*.py"):
        others = ("dvc", "stages", "wise", "benchmarks")
        assert not [name for name in imported(file) if name.startswith(others)], file
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(("data/", "params.yaml")), (file, node.value)
