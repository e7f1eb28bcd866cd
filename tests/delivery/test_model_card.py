"""The model card: what it says, and that it does not say more than is known."""

import importlib
import subprocess
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from pipeline.artifacts.proposals import ProposalWriter
from pipeline.common.files import write_bytes
from pipeline.delivery.model_card import DetectorOrigin, model_card
from tests.support.tiny import CLASSES, write_project
from wise import app

SUMMARY = {"images": 4, "instances": 7, "mAP25": 48.51, "mAP50": 40.4, "mAP75": None, "ABO": 51.0}
JUDGED = {"coco": SUMMARY, "wise": SUMMARY | {"mAP25": 12.34}}
METRICS = {"pseudo_masks": JUDGED, "wise": JUDGED, "wise+refine": JUDGED}
METRICS |= {"proposals": {}, "peaks": {}}
ORIGIN = DetectorOrigin(
    classes=("猫", "dog"),
    images={"train": 90, "val": 10},
    proposals={"method": "sharpmask", "supervision": "3,670 instance masks"},
    others="",
    parameters={"dataset": {"kind": "voc", "train": "train_1464", "val": "val_dev"}},
    metrics=METRICS,
    commit="0123abc",
    state="everything is up to date",
)


def test_programs_read_the_front_matter():
    card = ModelCard(model_card(ORIGIN))
    assert card.data.pipeline_tag == "image-segmentation"
    values = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert len(values) == 6  # mAP75 is not known
    assert values["mAP25, protocol wise, in percent"] == 12.34
    assert {result.dataset_name for result in card.data.eval_results} == {"voc, val_dev"}


@pytest.mark.parametrize(
    "line",
    [
        "猫, dog",
        "| training | train_1464 | 90 |",
        "| evaluation | val_dev | 10 |",
        "- Proposals that the pseudo masks were drawn from (sharpmask): 3,670 instance masks.",
        "| method | protocol | mAP25 | mAP50 | mAP75 | ABO |",
        "|---|---|---:|---:|---:|---:|",
        "| wise+refine | wise | 12.3 | 40.4 | - | 51.0 |",
        "Commit: 0123abc. State according to DVC: everything is up to date.",
        "  kind: voc",
    ],
)
def test_people_read_the_rest(line):
    assert line in model_card(ORIGIN).splitlines()


def test_photographs_for_the_classifier_alone_are_told():
    (line,) = set(model_card(replace(ORIGIN, others="2 of b")).split("\n")) - set(
        model_card(ORIGIN).split("\n")
    )
    assert line == "- Photographs that show none of the classes, for the classifier alone: 2 of b."


def test_without_results_it_claims_none():
    unjudged = {**METRICS, **{name: _without_truth() for name in ("wise", "wise+refine")}}
    unjudged["pseudo_masks"] = _without_truth()
    for metrics, reason in (
        (None, "None: not evaluated."),
        (unjudged, "None: there are no true masks to compare with."),
    ):
        card = model_card(replace(ORIGIN, metrics=metrics))
        assert reason in card.splitlines()
        assert ModelCard(card).data.eval_results is None


def _without_truth():
    nothing = SUMMARY | {"instances": 0, "mAP25": None, "mAP50": None, "ABO": None}
    return {"coco": nothing, "wise": nothing}


@pytest.fixture
def project(tmp_path, monkeypatch):
    write_project(tmp_path, 10)
    with ProposalWriter(tmp_path / "data" / "proposals" / "train", "boxes", "no masks", {}):
        pass
    monkeypatch.chdir(tmp_path / "stages")
    # What they write is of test_export.
    for name in ("write_onnx", "write_program"):
        monkeypatch.setattr(
            importlib.import_module("wise.export"), name, lambda _, path: write_bytes(path, b"")
        )
    return tmp_path


def git(folder, *words):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def export(out):
    done = CliRunner().invoke(app, ["export", "detector", "--out", str(out)])
    if done.exception is not None:
        raise done.exception
    return (out / "MODEL_CARD.md").read_text()


def test_it_lies_beside_the_weights_and_names_the_commit(project, tmp_path_factory, monkeypatch):
    out = tmp_path_factory.mktemp("taken") / "away"
    assert "\nCommit: none. State according to DVC: not known.\n" in export(out)
    names = {"MODEL_CARD.md", "detector.onnx", "detector.pt2", "weights.safetensors"}
    assert {path.name for path in out.iterdir()} == names
    taken = (out / "weights.safetensors").read_bytes()
    assert taken == (project / "data" / "mask_rcnn" / "weights.safetensors").read_bytes()
    # DVC takes seconds to say that it is not asked here.
    monkeypatch.setattr(importlib.import_module("wise.export"), "_state", lambda _: "not known")
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "start")
    revision = git(project, "rev-parse", "HEAD")
    assert f"\nCommit: {revision}. " in export(out)
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "\n")
    card = export(out)
    assert f"\nCommit: {revision}, with uncommitted changes. " in card
    assert f"\n{', '.join(CLASSES)}\n" in card
    assert "(boxes): no masks." in card
    parameters = yaml.safe_load((project / "params.yaml").read_text())
    written = card.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(written) == parameters


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("{}", "everything is up to date"),
        ('{"predictions": [], "evaluation": []}', "predictions, evaluation not up to date"),
    ],
)
def test_what_dvc_says_is_repeated(project, tmp_path, monkeypatch, printed, said):
    monkeypatch.setattr(importlib.import_module("wise.export"), "output", lambda *_: printed)
    assert f"State according to DVC: {said}" in export(tmp_path / "out")
