"""dvc.yaml, presets/, stages/ and data/ say the same; the truth is behind its door."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support import ROOT
from wise.dependencies import code_of, is_code
from wise.parameters import model

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMETERS = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())
TRUTH = "data/dataset/truth"
# The upper bound is built and trained, and detects, as the detector does.
PARAMETERS_OF_OTHERS = {
    "community_predictions": ["community.enabled"],
    "mask_rcnn_gt": ["mask_rcnn", "predictions"],
    "evaluation": ["mask_rcnn.pseudo_masks"],  # which name its rows have
    "sharpmask": ["proposals.method", "proposals.source"],  # whether it is trained at all
}


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
