"""`wise` itself: what it lists without importing it, and what a shell completes."""

import subprocess
import sys

import pytest

from tests.support import ROOT
from wise import COMMANDS, command_of


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says_and_shows_an_example(name):
    said = command_of(name).help
    assert said.splitlines()[0] == COMMANDS[name]
    assert f"Example: wise {name}" in said


def test_every_module_with_a_command_is_listed():
    ours = {path.stem for path in (ROOT / "wise").glob("*.py")}
    assert set(COMMANDS) <= ours
    others = {"box", "contents", "dependencies", "detector", "estimate", "project", "stores"}
    assert ours - set(COMMANDS) == {"__init__", "__main__", *others}


def ask(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_listing_commands_imports_none_of_them():
    code = (
        "import sys; from typer.testing import CliRunner; from wise import app\n"
        "assert 'pseudo masks' in CliRunner().invoke(app, ['--help']).stdout\n"
        "print(*{'torch', 'numpy', 'pydantic', 'zarr'} & set(sys.modules))"
    )
    assert ask(code) == []


def test_a_shell_completes_the_name_of_a_command():
    typed = {"COMP_WORDS": "wise pre", "COMP_CWORD": "1", "_WISE_COMPLETE": "complete_bash"}
    code = "from wise import app; app(prog_name='wise')"
    assert ask(code, **typed) == ["preset", "predictions", "predict"]
