"""What others need to use and join the project: licence, citation, checks, types, guide."""

import subprocess
import tomllib
import zipfile

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

from tests.support import ROOT
from wise.new import CODE

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_has_the_version_and_licence_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_changelog_knows_the_version():
    headings = [
        line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")
    ]
    assert headings[0] == "## [Unreleased]"
    assert any(heading.startswith(f"## [{PROJECT['version']}]") for heading in headings)


def test_pre_commit_makes_the_checks_of_make_lint():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert all(not hook["pass_filenames"] for hook in repository["hooks"])
    commands = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "--assume-old=.venv/.ready", "lint"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [hook["entry"] for hook in repository["hooks"]] == commands.stdout.splitlines()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel, opened."""
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_has_the_licence_and_says_that_it_is_typed(wheel):
    folder = f"wise_masks-{PROJECT['version']}.dist-info"
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert "License-Expression: Apache-2.0\n" in metadata
    licence = wheel.read(f"{folder}/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_bytes()
    for package in ("pipeline", "stages", "wise"):
        assert f"{package}/py.typed" in wheel.namelist()


def test_the_wheel_has_the_weights(wheel):
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"].values()
    paths = {artifact["path"] for artifact in declared}
    assert paths == {f"weights/{path.name}" for path in (ROOT / "weights").glob("*.safetensors")}
    assert paths <= set(wheel.namelist())
    assert sum((ROOT / path).stat().st_size for path in paths) <= 45e6


def test_a_working_copy_takes_the_licence_along():
    assert set(PROJECT["license-files"]) <= set(CODE)
