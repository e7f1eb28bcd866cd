"""What others need to use and join the project: licence, citation, checks, types, guide."""

import os
import subprocess
import sys
import tomllib
import zipfile

import numpy as np
import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from PIL import Image

from tests.support import ROOT
from tests.support.boxed import description, write_box, write_parts
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


TWO_WAYS = """
import sys
import wise
photograph = wise.load("pets", min_score=0)("a.png")
print(wise.__file__, photograph.masks.shape[1:], len(photograph.labels), flush=True)
sys.argv[1:] = ["predict", "a.png", "--score", "0", "--weights", "pets"]
wise.main()
"""


def test_an_installed_wheel_predicts_anywhere(wheel, tmp_path):
    """Without a clone, where nothing can be written to the installation, and no home folder."""
    site, work = tmp_path / "site", tmp_path / "work"
    wheel.extractall(site)
    write_parts(tmp_path)
    write_box(tmp_path, site / "weights" / "pets.safetensors", description())
    work.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(work / "a.png")
    installed = sorted(site.rglob("*"))
    for path in (site, *installed):
        path.chmod(path.stat().st_mode & ~0o222)
    environment = {"PYTHONPATH": str(site), "HOME": os.devnull, "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", TWO_WAYS],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
    )
    for path in (site, *installed):
        path.chmod(path.stat().st_mode | 0o200)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    count = int(first.split()[-1])
    assert first == f"{site}/wise/__init__.py (60, 80) {count}"
    assert second == f"predictions: {count} instances in 1 photographs"
    assert sorted(site.rglob("*")) == installed
    assert (work / "predictions" / "overlays" / "a.png").is_file()


def test_a_working_copy_takes_the_licence_along():
    assert set(PROJECT["license-files"]) <= set(CODE)
