"""Which files of this repository a module imports, directly or through others."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "stages")


def closure(file: Path) -> set[str]:
    """Paths, relative to the repository, of all that runs when `file` is imported.

    Imports inside functions are left out: those are of what only some parameters need, which
    dvc.yaml names by a parameter. Empty files are left out: nothing in them can change.
    """
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        waiting += _imported(path)
    return {str(path.relative_to(ROOT)) for path in found if path.stat().st_size}


def _imported(path: Path) -> list[Path]:
    files = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in PACKAGES:
                files += _files(ROOT / Path(*name.split(".")))
    return files


def _files(module: Path) -> list[Path]:
    """The file of a module or package, and the packages around it."""
    around = [parent / "__init__.py" for parent in (module, *module.parents)]
    candidates = [module.with_suffix(".py"), *around]
    return [file for file in candidates if file.is_file() and ROOT in file.parents]
