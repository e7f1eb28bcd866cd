"""CONTRIBUTING.md: its examples are applied to a tiny project, and run there."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml
from PIL import Image

from pipeline.artifacts.instances import InstanceStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from tests.support import ROOT
from tests.support.tiny import write_project
from wise.dependencies import code_of

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
RUN = """
import importlib, sys
for stage in sys.argv[1:]:
    importlib.import_module(f"stages.{stage}").main()
"""


def blocks(language):
    """The blocks of a language: what the first line names after `# `, and the rest."""
    found = re.findall(rf"^```{language}\n# ([^\n]+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert found
    return found


def apply(hunk, text):
    """Replace the old lines of a hunk by its new ones; the old ones have to be there, once."""
    lines = hunk.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(f"\n{old}") == 1, f"not in the code, or more than once:\n{old}"
    return text.replace(f"\n{old}", f"\n{new}")


def merge(values, changes):
    """Write the changes over the values, section by section."""
    for key, value in changes.items():
        if isinstance(value, dict):
            merge(values.setdefault(key, {}), value)
        else:
            values[key] = value


def change(path, changes):
    values = yaml.safe_load(path.read_text())
    merge(values, changes)
    path.write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A tiny project with all examples in it, whose stages have run."""
    folder = tmp_path_factory.mktemp("examples")
    write_project(folder, images=20)
    for name, code in blocks("python"):
        assert not (folder / name).exists()
        (folder / name).write_text(code)
    for name, hunks in blocks("diff"):
        text = (folder / name).read_text()
        for hunk in hunks.split("@@\n"):
            text = apply(hunk, text)
        (folder / name).write_text(text)
    for name, values in blocks("yaml"):
        parsed = yaml.safe_load(values)
        if name == "dvc.yaml":
            change(folder / name, {"stages": parsed})
        else:
            change(folder / "params.yaml", parsed)
    short = {"image_size": 64, "weights": "none", "schedule": {"epochs": 2}}
    change(folder / "params.yaml", {"proposals": {"method": "grid"}, "regions": short})
    stages = ("peaks", "proposals", "sampler", "predictions", "filtering", "regions")
    run(folder, *stages)
    return folder


def run(folder, *stages):
    command = [sys.executable, "-c", RUN, *stages]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_dependencies_of_new_stages_are_found(project):
    assert "pipeline/detectors/filtering.py" in code_of(project, "filtering")
    assert "pipeline/detectors/regions.py" in code_of(project, "regions")
    assert "pipeline/detectors/filtering.py" not in code_of(project, "regions")


def test_the_page_of_parameters_has_those_of_the_examples(project):
    (project / "presets").mkdir()
    shutil.copy(project / "params.yaml", project / "presets" / "scenes.yaml")
    code = "from pathlib import Path; from wise.parameters import reference as r; print(r(Path()))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for key in ("grid.cells", "min_area", "schedule.milestones"):
        assert f"| `{key}` |" in done.stdout


def test_a_dataset(project):
    photographs = project / "sorted"
    for number, name in enumerate(("train/cat", "train/dog", "val/cat")):
        (photographs / name).mkdir(parents=True)
        Image.new("RGB", (90, 70), (number, 0, 0)).save(photographs / name / "a.jpg")
    place = str(photographs)
    settings = {"kind": "image_folder", "path": place, "tags": place, "classes": []}
    change(project / "params.yaml", {"dataset": settings})
    run(project, "dataset")
    train, val = (
        Split.read(project / "data" / "dataset" / f"{name}.json") for name in ("train", "val")
    )
    assert [(shown.id, shown.tags) for shown in train.photographs] == [
        ("train/cat/a.jpg", ("cat",)),
        ("train/dog/a.jpg", ("dog",)),
    ]
    assert [shown.id for shown in val.photographs] == ["val/cat/a.jpg"]


def test_a_proposal_method(project):
    store = ProposalStore(project / "data" / "proposals" / "val")
    assert store.attributes["supervision"] == "no masks: a regular grid"
    assert [len(store.proposals(image_id).masks) for image_id in store] == [20, 20]


def test_a_stage(project):
    predicted = InstanceStore(project / "data" / "predictions" / "val")
    filtered = InstanceStore(project / "data" / "filtering" / "val")
    assert list(filtered) == list(predicted)
    assert filtered.attributes["stage"] == "filtering"


def test_a_detector(project):
    found = InstanceStore(project / "data" / "regions" / "train")
    assert len(list(found)) == 18
    assert any(len(found.instances(image_id).masks) for image_id in found)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:\w+/)+\w+\.\w+)`", GUIDE))))
def test_files_that_are_named_exist(path):
    assert (ROOT / path).is_file() or any(path == name for name, _ in blocks("python"))


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / target).exists(), target
