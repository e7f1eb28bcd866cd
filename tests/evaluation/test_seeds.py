"""Spread over seeds: its arithmetic, and `wise seeds` on a project of one quick stage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.common.errors import InputError
from pipeline.evaluation import seeds as spread
from tests.support import ROOT
from wise import app

PARAMETERS = {
    "drawn": {"scenes": {"seed": 0, "train": 4}, "side": 64},
    "first": {"seed": 3, "learning_rate": 0.5},
    "last": {"seedling": 1},
}


def run_of(number, error=None):
    """Metrics of one method and protocol, and what is beside methods."""
    summary = {"images": 6, "instances": 9, "mAP50": number, "CorLoc": 50.0, "count_error": error}
    return {"wise": {"wise": {**summary, "per_class": {"cat": {"AP50": number}}}}}


def test_seeds_are_found_at_any_depth():
    assert spread.seeds(PARAMETERS) == {"drawn.scenes.seed": 0, "first.seed": 3}


def test_mean_and_deviation_are_those_of_a_sample():
    numbers = [40.0, 43.5, 41.2]
    found = spread.spread([run_of(number, error=number / 40) for number in numbers])
    of_protocol = found["wise"]["wise"]
    assert set(of_protocol) == {"mAP50", "CorLoc", "count_error"}
    assert of_protocol["mAP50"]["mean"] == pytest.approx(np.mean(numbers), abs=1e-4)
    assert of_protocol["mAP50"]["std"] == pytest.approx(np.std(numbers, ddof=1), abs=1e-4)
    assert of_protocol["CorLoc"] == {"mean": 50, "std": 0}


def test_what_one_run_does_not_know_is_unknown():
    found = spread.spread([run_of(40.0, error=1.0), run_of(41.0)])
    assert found["wise"]["wise"]["count_error"] is None
    text = spread.spread_tables(found, ["a", "b"])
    assert "| method | protocol | mAP50 |\n" in text
    assert "| wise | wise | 40.5 ± 0.7 |\n" in text
    assert "| wise | wise | 50.0 ± 0.0 | - |\n" in text
    assert text.count("over 2 seeds: a, b.") == 2


STAGE = """
import json, os, pathlib, sys, yaml
seed = yaml.safe_load(open("params.yaml"))["first"]["seed"]
with open(os.environ["RUNS"], "a") as runs:
    print(seed, file=runs)
if str(seed) == os.environ.get("FAILS"):
    sys.exit("no luck")
number = float(pathlib.Path("photographs/number.txt").read_text()) + seed
summary = {"images": 1, "instances": 1, "mAP50": number, "per_class": {}}
place = pathlib.Path("data/evaluation/metrics.json")
place.parent.mkdir(parents=True, exist_ok=True)
place.write_text(json.dumps({"wise": {"wise": summary}, "peaks": {"train": {"peaks": 3}}}))
"""


@pytest.fixture
def project(tmp_path):
    """A repository whose one stage reads photographs that git does not know."""
    folder = tmp_path / "project"
    (folder / "stages").mkdir(parents=True)
    (folder / "stages" / "evaluation.py").write_text(STAGE)
    (folder / "photographs").mkdir()
    (folder / "photographs" / "number.txt").write_text("40")
    (folder / ".gitignore").write_text("/photographs/\n")
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMETERS))
    evaluation = {
        "cmd": "python stages/evaluation.py",
        "deps": ["stages/evaluation.py", "photographs"],
        "params": ["drawn", "first"],
        "metrics": [{"data/evaluation/metrics.json": {"cache": False}}],
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"evaluation": evaluation}}))
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for command in (
        ("git", "init", "--quiet"),
        (sys.executable, "-m", "dvc", "init", "--quiet"),
        ("git", "add", "--all"),
        ("git", *identity, "commit", "--quiet", "--message", "start"),
    ):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def wise(project, *words, **environment):
    """Run a command as a user would, in a subfolder."""
    paths = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RUNS": str(project.parent / "runs"),
        "DVC_NO_ANALYTICS": "1",
        "DVC_STUDIO_OFFLINE": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "wise", *words],
        cwd=project / "stages",
        env={**os.environ, **paths, **environment},
        capture_output=True,
        text=True,
    )


def contents(project):
    files = [p for p in project.rglob("*") if p.is_file() and ".dvc" not in p.parts]
    return {path: path.read_bytes() for path in files if ".git" not in path.parts}


def test_seeds_go_on_after_a_failure_and_leave_the_project_as_it_was(project):
    (project / "params.yaml").write_text(yaml.safe_dump({**PARAMETERS, "last": {"seedling": 2}}))
    before = contents(project)
    failed = wise(project, "seeds", "--count", "2", "--json", FAILS="4")
    assert failed.returncode == 1
    assert "failed, see above; finished stages are kept, run the command again" in failed.stderr
    assert failed.stdout == ""
    assert contents(project) == before

    done = wise(project, "seeds", "--count", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # 40 + 3 and 40 + 4
    of_protocol = {"mAP50": {"mean": 43.5, "std": 0.7071}}
    assert found["methods"] == {"wise": {"wise": of_protocol}}
    assert (project.parent / "runs").read_text().split() == ["3", "4", "4"]
    assert contents(project) == before
    names = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "list", "--name-only"],
        cwd=project,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert sorted(names) == found["experiments"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("first: [", r"params\.yaml: not YAML"),
        ("first: {rate: 1}", "no parameter is called seed"),
        ("- seed", "a mapping of stages is needed"),
        ("first: {seed: one}", r"first\.seed = 'one': a seed must be an integer"),
        ("first: {seed: 1}", "experiments need a git repository with DVC"),
    ],
)
def test_what_has_no_seeds_or_no_experiments_is_refused(tmp_path, monkeypatch, parameters, message):
    (tmp_path / "stages").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text(parameters)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, ["seeds"], catch_exceptions=False)
