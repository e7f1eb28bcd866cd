"""The whole pipeline, tiny: the tables, what is cached, what is not, and who reads the truth.

Every stage runs for real, on a few small scenes in a folder in VOC's form.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.artifacts.proposals import ProposalStore
from pipeline.common.errors import InputError
from pipeline.dataset.scenes.files import draw_coco, draw_voc
from stages import evaluation
from tests.support import ROOT
from tests.support.parameters import tiny_parameters
from tests.support.running import run, run_here, script, shelf

STAGES = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
TRUTH_READERS = {"mask_rcnn_gt", "evaluation", "report"}
NOT_READ = {"scenes"}  # the tiny project has photographs of its own
AFTER_SAMPLER = ["sampler", "mask_rcnn", "predictions"]
AFTER_PREDICTIONS = {"refinement", "calibration", "evaluation", "report"}  # two in any order


def stages_run(done):
    return re.findall(r"Running stage '(\w+)'", done.stdout)


def checkout(folder, source=ROOT):
    """Copy the code of a working tree, with tiny parameters and nothing that was computed."""
    computed = (":(exclude)data", ":(exclude)dvc.lock")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", ".", *computed],
        cwd=source,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (source / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, folder / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny_parameters(), sort_keys=False))
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("/photographs/\n")
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", "--all")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run(folder, "git", *identity, "commit", "--quiet", "--message", "start")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve training scenes, six for evaluation, and eight for the proposal network."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_voc(folder / "VOC2012", {"train": 12, "val": 6}, seed=3)
    draw_coco(folder / "source", 8, seed=3)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory, photographs):
    """A checkout in which `dvc repro` has run."""
    folder = tmp_path_factory.mktemp("project")
    checkout(folder)
    shutil.copytree(photographs, folder / "photographs")
    done = run(folder, "dvc", "repro")
    assert stages_run(done) == sorted(STAGES, key=stages_run(done).index)
    assert set(stages_run(done)) == set(STAGES)
    return folder


def changed(folder):
    """Stages that DVC says would have to run, not counting those that follow from them."""
    status = json.loads(run(folder, "dvc", "status", "--json").stdout)
    return {
        stage
        for stage, changes in status.items()
        if any(isinstance(change, dict) and "changed deps" in change for change in changes)
    }


def test_a_used_working_tree_is_copied_without_its_results_and_parameters(tmp_path):
    used, folder = tmp_path / "used", tmp_path / "copy"
    (used / "data").mkdir(parents=True)
    folder.mkdir()
    run(used, "git", "init", "--quiet")
    for name in ("code.py", "params.yaml", "dvc.lock", "data/weights"):
        (used / name).write_text("of the used tree")
    checkout(folder, used)
    files = {path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts}
    assert {path.name for path in files} == {"code.py", "params.yaml", ".gitignore"}
    assert yaml.safe_load((folder / "params.yaml").read_text()) == tiny_parameters()


def test_the_tables_are_there(project):
    metrics = json.loads((project / "data" / "evaluation" / "metrics.json").read_text())
    for method in ("pseudo_masks", "prm", "prm/train", "wise", "wise+refine"):
        for protocol in ("coco", "wise"):
            assert {"mAP25", "mAP50", "mAP75", "ABO", "per_class"} <= set(metrics[method][protocol])
    assert not {"mask_rcnn_gt", "community"} & set(metrics)  # they are off
    assert 0 < metrics["proposals"]["val"]["overlap@10"] < 100
    assert metrics["peaks"]["train"]["peaks"] > 0


def test_a_second_run_runs_nothing(project):
    assert stages_run(run(project, "dvc", "repro")) == []
    assert run(project, "dvc", "status").stdout.startswith("Data and pipelines are up to date")


def test_an_evaluation_that_ends_early_goes_on_to_the_same_bytes(project, monkeypatch):
    evaluate, judged = evaluation.evaluate, []

    def evaluate_two(pairs, parameters):
        if len(judged) == 2:
            raise KeyboardInterrupt
        judged.append(pairs)
        return evaluate(pairs, parameters)

    before = shelf(project, "evaluation")
    monkeypatch.setattr(evaluation, "evaluate", evaluate_two)
    with pytest.raises(KeyboardInterrupt):
        run_here(project, "evaluation")
    monkeypatch.setattr(evaluation, "evaluate", lambda *of: judged.append(of) or evaluate(*of))
    run_here(project, "evaluation")
    assert len(judged) == 7  # methods: none twice
    assert shelf(project, "evaluation") == before


def test_only_a_stage_that_uses_a_line_runs_again(project):
    for line, stages in {
        "pipeline/pseudo_masks/sampler.py": {"sampler"},
        "pipeline/classifier/peak_response.py": {"peaks", "retrieval"},
        "pipeline/backbones/backbone.py": {
            *("prm", "peaks", "sharpmask", "proposals", "mask_rcnn", "predictions"),
            *("retrieval", "mask_rcnn_gt", "community", "community_predictions"),
        },
        "README.md": set(),
        "wise/preset.py": set(),
    }.items():
        file = project / line
        before = file.read_text()
        file.write_text(f"{before}\n# changed\n")
        assert changed(project) == stages, line
        file.write_text(before)
    assert changed(project) == set()


def test_a_changed_photograph_tag_or_source_makes_its_reader_run(project):
    voc = project / "photographs" / "VOC2012"
    for file, stage in {
        next((voc / "JPEGImages").glob("*.jpg")): "dataset",
        next((voc / "ImageSets" / "Main").glob("*_train.txt")): "dataset",
        project / "photographs" / "source" / "instances.json": "sharpmask",
    }.items():
        before = file.read_bytes()
        file.write_bytes(before + b"\n")
        assert changed(project) == {stage}
        file.write_bytes(before)
    assert changed(project) == set()


def test_without_truth_and_with_other_workers_the_same_bytes(project, photographs, tmp_path):
    checkout(tmp_path)
    shutil.copytree(photographs, tmp_path / "photographs")
    voc = tmp_path / "photographs" / "VOC2012"
    shutil.rmtree(voc / "SegmentationObject")
    shutil.rmtree(voc / "SegmentationClass")
    for annotation in (voc / "Annotations").glob("*.xml"):
        boxless = re.sub(r"<bndbox>.*?</bndbox>", "", annotation.read_text(), flags=re.DOTALL)
        annotation.write_text(boxless)
    targets = ["refinement", "retrieval", "calibration"]
    done = run(tmp_path, "dvc", "repro", *targets, workers=1)
    assert set(stages_run(done)) == set(STAGES) - TRUTH_READERS - NOT_READ
    without_truth = [
        stage for stage in STAGES if stage not in {"dataset", *NOT_READ, *TRUTH_READERS}
    ]
    ours, theirs = shelf(tmp_path, *without_truth), shelf(project, *without_truth)
    assert len(ours) > 50
    assert ours == theirs
    for name in ("train.json", "val.json"):
        path = Path("data", "dataset", name)
        assert (tmp_path / path).read_bytes() == (project / path).read_bytes()
    # Nothing to compare with is said, and is no failure.
    said = run(tmp_path, "dvc", "repro").stdout
    for name in ("train", "val"):
        assert f"evaluation: no image of {name} has true masks to compare with" in said


def test_another_temperature_runs_the_sampler_and_what_follows(project):
    done = run(project, "dvc", "exp", "run", "-S", "sampler.temperature=0.5")
    ran = stages_run(done)
    assert ran[:3] == AFTER_SAMPLER
    assert set(ran[3:]) == AFTER_PREDICTIONS
    run(project, "git", "checkout", "--quiet", ".")
    run(project, "dvc", "checkout")
    # And back: from the cache, not from the processor.
    assert stages_run(run(project, "dvc", "repro")) == []


def test_proposals_by_grouping_train_no_sharpmask(project):
    done = run(project, "dvc", "exp", "run", "-S", "proposals.method=grouping")
    assert "sharpmask: not trained" in done.stdout
    assert ProposalStore(project / "data" / "proposals" / "val").attributes["method"] == "grouping"
    assert (project / "data" / "report" / "index.html").is_file()
    assert run(project, "dvc", "status").stdout.startswith("Data and pipelines are up to date")
    run(project, "dvc", "plots", "show", "--json")
    run(project, "git", "checkout", "--quiet", ".")
    run(project, "dvc", "checkout")


@pytest.mark.parametrize(
    ("stage", "key", "value", "message"),
    [
        ("sampler", "temperatur", 1, r"sampler\.temperatur: unknown.*did you mean temperature"),
        ("sampler", "temperature", 0, r"sampler\.temperature = 0.*above 0.*1e-6.*highest object"),
        (
            "peaks",
            "min_relative_height",
            1.5,
            r"peaks\.min_relative_height = 1\.5: .*less than or equal to 1",
        ),
        ("prm", "image_size", "large", r"prm\.image_size = 'large': .*integer"),
        ("dataset", "path", "nowhere", r"nowhere"),
        ("dataset", "train", "trian", r"trian.*train, val"),
        ("sharpmask", "path", "nowhere", r"nowhere"),
        ("prm", "weights", "absent.pt", r"absent\.pt: no such file"),
    ],
)
def test_bad_parameters_end_with_one_line(project, stage, key, value, message):
    before = shelf(project, stage)
    file = project / "params.yaml"
    good = file.read_text()
    parameters = yaml.safe_load(good)
    parameters[stage][key] = value
    file.write_text(yaml.safe_dump(parameters))
    try:
        with pytest.raises(InputError, match=rf"^.*{message}.*\Z"):
            run_here(project, stage)
    finally:
        file.write_text(good)
    assert shelf(project, stage) == before


def test_a_section_of_no_stage_is_named(project):
    file = project / "params.yaml"
    good = file.read_text()
    file.write_text(f"{good}\nsamplr:\n  temperature: 1.0\n")
    try:
        with pytest.raises(InputError, match=r"^params\.yaml: samplr: not a stage"):
            run_here(project, "sampler")
    finally:
        file.write_text(good)


def test_a_gpu_that_is_not_there_is_said(project):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        script("prm"),
        cwd=project,
        env={**os.environ, "WISE_DEVICE": "cuda"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "prm: WISE_DEVICE=cuda: torch finds no GPU; unset it, or set it to cpu\n"
    )
