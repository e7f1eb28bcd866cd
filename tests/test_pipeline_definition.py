"""dvc.yaml, presets/, stages/ and data/ say the same; the truth is behind its door."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml
from imports import ROOT

from pipeline.common.errors import InputError
from pipeline.common.parameters import Parameters
from wise.dependencies import code_of, is_code
from wise.preset import write_preset

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMETERS = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())
TRUTH = "data/dataset/truth"
# The upper bound is built and trained, and detects, as the detector does.
PARAMETERS_OF_OTHERS = {
    "mask_rcnn_gt": ["mask_rcnn", "predictions"],
    "sharpmask": ["proposals.method", "proposals.source"],  # whether it is trained at all
}


def model(stage):
    """The parameter model of a stage: the one class of its module that is called after it."""
    module = importlib.import_module(f"stages.{stage}")
    wanted = f"{stage.replace('_', '')}parameters"
    (found,) = [value for name, value in vars(module).items() if name.lower() == wanted]
    assert issubclass(found, Parameters)
    return found


def outs(stage):
    entries = [*STAGES[stage]["outs"], *STAGES[stage].get("metrics", [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_one_name_four_places():
    scripts = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert scripts == set(STAGES) == set(PARAMETERS)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_what_its_name_says(stage):
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"
    assert STAGES[stage]["params"] == [*PARAMETERS_OF_OTHERS.get(stage, []), stage]
    assert all(Path(out).parts[:2] == ("data", stage) for out in outs(stage))
    model(stage).parse(PARAMETERS[stage], stage)


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_what_is_imported(stage):
    """`make deps` writes them."""
    code = [dependency for dependency in STAGES[stage]["deps"] if is_code(dependency)]
    assert code == code_of(ROOT, stage)


@pytest.mark.parametrize("stage", STAGES)
def test_stages_import_no_stage(stage):
    imported = {path for path in code_of(ROOT, stage) if path.startswith("stages/")}
    assert imported == {"stages/common", f"stages/{stage}.py"}


def test_inputs_are_what_other_stages_leave():
    left = {out for stage in STAGES for out in outs(stage)}
    for stage, entry in STAGES.items():
        for dependency in entry["deps"]:
            if dependency.startswith("data/"):
                around = {dependency, *map(str, Path(dependency).parents)}
                assert around & left, f"{stage} reads {dependency}, which no stage leaves"


def followers(stage):
    """The stages that read what a stage leaves, or what one of those leaves."""
    found = {name for name, entry in STAGES.items() if set(outs(stage)) & set(entry["deps"])}
    return found.union(*map(followers, found))


def test_the_truth_is_read_where_nothing_is_trained_but_the_upper_bound():
    read = {
        stage: [dependency for dependency in entry["deps"] if dependency.startswith(TRUTH)]
        for stage, entry in STAGES.items()
    }
    assert {stage: paths for stage, paths in read.items() if paths} == {
        "mask_rcnn_gt": [f"{TRUTH}/train.json"],
        "evaluation": [TRUTH],
        "report": [TRUTH],
    }
    assert followers("mask_rcnn_gt") == {"evaluation", "report"}
    assert followers("evaluation") == {"report"}
    assert followers("report") == set()
    assert not PARAMETERS["mask_rcnn_gt"]["enabled"]
    # A dependency on all of data/dataset would let the truth in with it.
    for entry in STAGES.values():
        assert not {"data", "data/", "data/dataset", "data/dataset/"} & set(entry["deps"])
    knowing = {
        stage
        for stage in STAGES
        if re.search(r"\btruth\b", (ROOT / "stages" / f"{stage}.py").read_text())
    }
    assert knowing == {"dataset", "mask_rcnn_gt", "evaluation", "report"}


def leaves(values):
    for key, value in values.items():
        yield key
        if isinstance(value, dict):
            yield from leaves(value)


def test_no_parameter_has_a_name_that_the_run_cache_cannot_see():
    assert not {"size", "nfiles"} & set(leaves(PARAMETERS))


def test_a_fresh_clone_has_the_embedded_default():
    """As committed: in the working tree, params.yaml is whatever was last run."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    committed = [
        subprocess.run(
            ["git", "show", f"HEAD:{name}"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        for name in ("params.yaml", "presets/scenes.yaml")
    ]
    assert committed[0] == committed[1]


@pytest.fixture
def project(tmp_path):
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    return tmp_path


@pytest.mark.parametrize("preset", sorted(p.stem for p in (ROOT / "presets").glob("*.yaml")))
def test_a_preset_gives_valid_parameters(preset, project):
    write_preset(preset, project)
    written = yaml.safe_load((project / "params.yaml").read_text())
    for stage in STAGES:
        model(stage).parse(written[stage], stage)
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
    with pytest.raises(InputError, match="no preset voc2021; there are scenes, voc2012"):
        write_preset("voc2021", project)
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
    assert wrong.stderr.startswith("wise: no preset none; there are")
    assert ran(command, env=environment).returncode == 2
