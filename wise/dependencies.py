"""What of the code each stage depends on, in dvc.yaml: `make deps` writes it, a test compares.

A stage depends on what its script imports, directly or through others. The packages of `GROUND`
stand there as folders, all other modules as files, with the templates and style sheets that lie
beside them.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

PACKAGES = ("pipeline", "stages")
# What every room stands on: where one of these files changes, most of what is above changes.
GROUND = (
    "pipeline/artifacts",
    "pipeline/backbones",
    "pipeline/common",
    "pipeline/execution",
    "pipeline/training",
    "stages/common",
)


def code_of(project: Path, stage: str) -> list[str]:
    """List the code that a stage depends on: paths relative to the project, sorted.

    Imports inside functions count: dvc.yaml has to name what any parameter may need. Empty files
    are left out, for nothing in them can change.
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
    """Whether a dependency of dvc.yaml is code, and not an input."""
    return dependency.startswith(tuple(f"{package}/" for package in PACKAGES))


def write(project: Path) -> None:
    """Write the code dependencies of every stage into dvc.yaml, comments kept."""
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
    """All files that run when a file is imported and used, but for empty ones."""
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
    """The file of a module or package, and the packages around it."""
    around = [parent / "__init__.py" for parent in (module, *module.parents)]
    candidates = [module.with_suffix(".py"), *around]
    return [file for file in candidates if file.is_file() and project in file.parents]


if __name__ == "__main__":
    write(Path.cwd())
