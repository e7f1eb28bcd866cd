"""The code dependencies of the stages in dvc.yaml. `make deps` writes them; a test compares them.

A stage depends on all modules that its script imports, directly or indirectly. The packages of
`GROUND` are listed as folders, all other modules as files, together with the templates and style
sheets next to them.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

PACKAGES = ("pipeline", "stages")
# Packages that most stages import.
GROUND = (
    "pipeline/artifacts",
    "pipeline/backbones",
    "pipeline/common",
    "pipeline/execution",
    "pipeline/training",
    "stages/common",
)


def code_of(project: Path, stage: str) -> list[str]:
    """List the code that a stage depends on, as sorted paths relative to the project.

    Imports inside functions are included, because dvc.yaml must name the code for any parameter.
    Empty files are left out.
    """
    found: set[str] = set()
    for file in _closure(project, project / "stages" / f"{stage}.py"):
        path = file.relative_to(project).as_posix()
        ground = [folder for folder in GROUND if path.startswith(f"{folder}/")]
        found |= {*(ground or [path])}
        if not ground:
            found |= {
                beside.relative_to(project).as_posix()
                for beside in file.parent.iterdir()
                if beside.is_file() and beside.suffix != ".py" and beside.stat().st_size
            }
    return sorted(found)


def is_code(dependency: str) -> bool:
    """Whether a dependency in dvc.yaml is code rather than data."""
    return dependency.startswith(tuple(f"{package}/" for package in PACKAGES))


def write(project: Path) -> None:
    """Write the code dependencies of each stage to dvc.yaml, keeping comments."""
    yaml = YAML()
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = project / "dvc.yaml"
    content: Any = yaml.load(path.read_text())
    for stage, entry in content["stages"].items():
        old = entry["deps"]
        entry["deps"] = CommentedSeq(
            [*code_of(project, stage), *(dep for dep in old if not is_code(dep))]
        )
    with path.open("w") as file:
        yaml.dump(content, file)


def _closure(project: Path, file: Path) -> set[Path]:
    """Return a file and all files that it imports, directly or indirectly, without empty ones."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(project, path)
    return {path for path in found if path.stat().st_size}


def _imported(project: Path, path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in PACKAGES:
                yield from _files(project, project / Path(*name.split(".")))


def _files(project: Path, module: Path) -> list[Path]:
    """Return the file of a module or package, and the `__init__.py` of its parent packages."""
    around = [parent / "__init__.py" for parent in (module, *module.parents)]
    candidates = [module.with_suffix(".py"), *around]
    return [file for file in candidates if file.is_file() and project in file.parents]


if __name__ == "__main__":
    write(Path.cwd())
