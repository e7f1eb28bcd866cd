"""What README.md and docs/ refer to: files, headings, parameters."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PARAMETERS = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())
LINK = re.compile(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)")
FILE = re.compile(
    r"(?<![\w/.-])((?:pipeline|stages|wise|tests|benchmarks)/[\w/-]+\.\w+|pipeline/\w[\w/]*)"
)
MODULE = re.compile(r"python -m ((?:stages|benchmarks|wise)(?:\.\w+)*)")
NAMES = re.compile(r"\]\(([^)]+\.py)\): ((?:`\w+`(?:, )?)+)")
KEY = re.compile(rf"(?:-S |`)((?:{'|'.join(PARAMETERS)})(?:\.\w+)+)(?=[=:`])")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for file, heading in LINK.findall(page.read_text()):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not heading or heading in set(_anchors(target)), f"{file}#{heading}"


@pages
def test_files_and_modules_exist(page: Path) -> None:
    text = page.read_text()
    modules = [name.replace(".", "/") for name in MODULE.findall(text)]
    files = [name for name in FILE.findall(text) if not (ROOT / name).exists()]
    assert files == []
    assert [name for name in modules if not list(ROOT.glob(f"{name}*"))] == []


@pages
def test_modules_define_what_is_said_of_them(page: Path) -> None:
    for module, names in NAMES.findall(page.read_text()):
        code = (page.parent / module).read_text()
        for name in re.findall(r"\w+", names):
            assert re.search(rf"(?:def|class) {name}\b", code), f"{module}: {name}"


@pages
def test_parameters_exist(page: Path) -> None:
    # docs/parameters.md names its keys within their section.
    found = [] if page.name == "parameters.md" else KEY.findall(page.read_text())
    assert [key for key in found if not _is_parameter(key)] == []


def _anchors(page: Path) -> Iterator[str]:
    """The anchors that GitHub makes of a page's headings."""
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _is_parameter(key: str) -> bool:
    value = PARAMETERS
    for name in key.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True
