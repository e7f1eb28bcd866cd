"""`wise preset`: each gives valid parameters, alone or on top of another."""

import os
import shutil
import subprocess
import sys
from functools import partial

import pytest
import yaml

from pipeline.common.errors import InputError
from tests.support import ROOT
from wise.parameters import model
from wise.preset import write_preset


@pytest.fixture
def project(tmp_path):
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    return tmp_path


@pytest.mark.parametrize("preset", sorted(p.stem for p in (ROOT / "presets").glob("*.yaml")))
def test_a_preset_gives_valid_parameters(preset, project):
    write_preset(preset, project)
    written = yaml.safe_load((project / "params.yaml").read_text())
    for stage, values in written.items():
        model(stage).parse(values, stage)
    changed = yaml.safe_load((ROOT / "presets" / f"{preset}.yaml").read_text())
    for stage, values in changed.items():
        if stage == "extends":
            continue
        for key, value in values.items():
            if not isinstance(value, dict):
                assert written[stage][key] == value


def test_a_preset_starts_from_the_one_that_it_extends(project):
    (project / "presets/mine.yaml").write_text("extends: voc2012-animals\nprm: {image_size: 64}\n")
    write_preset("voc2012-animals", project)
    expected = yaml.safe_load((project / "params.yaml").read_text())
    write_preset("mine", project)
    expected["prm"]["image_size"] = 64
    assert yaml.safe_load((project / "params.yaml").read_text()) == expected


def test_an_unknown_preset_is_named(project):
    with pytest.raises(InputError, match="no preset voc2021; available: scenes, voc2012"):
        write_preset("voc2021", project)
    assert not (project / "params.yaml").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: mine", r"presets/mine\.yaml: extends itself"),
        ("extends: [1]", r"no preset \[1\]"),
        ("", "a mapping of stages is needed"),
        ("prm: 3", r"presets/mine\.yaml: prm: a section of parameters is needed"),
        ("prm: {image_size: {a: 1}}", r"prm: image_size: a single value is needed"),
        ("prm: {image_size: 1, image_size: 2}", r"prm\.image_size: there twice \(line 1\)"),
    ],
)
def test_a_preset_that_makes_no_sense(project, text, message):
    (project / "presets/mine.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        write_preset("mine", project)
    assert not (project / "params.yaml").exists()


def test_the_command_finds_its_project_from_a_subfolder(project):
    for name in ("stages", "deep/down"):
        (project / name).mkdir(parents=True)
    shutil.copy(ROOT / "dvc.yaml", project)
    command = [sys.executable, "-m", "wise", "preset"]
    ran = partial(subprocess.run, cwd=project / "deep" / "down", capture_output=True, text=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert ran([*command, "scenes"], env=environment).returncode == 0
    assert (project / "params.yaml").read_text() == (ROOT / "presets/scenes.yaml").read_text()
    wrong = ran([*command, "none"], env=environment)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("wise: no preset none; available:")
    assert ran(command, env=environment).returncode == 2
