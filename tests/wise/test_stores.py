"""`wise proposals`, `wise peaks`, `wise predictions`: on one small project, as a user would."""

import importlib
import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from pipeline.artifacts.instances import Instances, InstanceWriter
from pipeline.artifacts.peaks import Peaks, PeakWriter
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.pseudo_masks.sampler import Sampler, SamplerParameters
from tests.support import ROOT
from wise import app

HEIGHT, WIDTH, CLASSES = 60, 80, ("cat", "dog")
SCORE = np.array([0.9, 0.5], np.float32)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose split val has the photographs `first` and `second`."""
    (tmp_path / "stages").mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    data, names = tmp_path / "data", ("first", "second")
    of_split = []
    for name in names:
        pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        of_split.append(
            Photograph(
                id=name, file=f"{name}.png", height=HEIGHT, width=WIDTH, sha256="", tags=("cat",)
            )
        )
    for name in ("train", "val"):
        known = tuple(of_split) if name == "val" else ()
        Split(root=".", classes=CLASSES, photographs=known).write(data / f"dataset/{name}.json")
    shapes = np.zeros((2, HEIGHT, WIDTH), bool)
    shapes[0, 10:30, 10:40] = shapes[1, 5:50, 5:60] = True
    rles, label = masks.encode(shapes), np.array([0, 1], np.int16)
    point, value = np.array([12, 55], np.int32), np.ones(2, np.float32)
    with (
        ProposalWriter(data / "proposals/val", "boxes", "nobody's masks", {}) as proposals,
        PeakWriter(data / "peaks/val", CLASSES, {}) as peaks,
        InstanceWriter(data / "predictions/val", "predictions", CLASSES, {}) as predictions,
    ):
        for name in names:
            proposals.add(name, HEIGHT, WIDTH, Proposals(rles, SCORE))
            response = np.full((2, 5, 5), 1 / 25, np.float32)
            peaks.add(name, HEIGHT, WIDTH, Peaks(label, point, point, value, response))
            predictions.add(name, HEIGHT, WIDTH, Instances(rles, label, SCORE))
    return tmp_path


def wise(*words):
    done = CliRunner().invoke(app, list(words), catch_exceptions=True)
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.mark.parametrize("path", ["data/proposals", "data/proposals/val"])
def test_contents_of_proposals(project, path):
    (name,) = json.loads(wise("proposals", path, "--json"))
    assert name == "val"
    contents = json.loads(wise("proposals", path, "--json"))["val"]
    assert (contents["images"], contents["proposals"], contents["images without proposals"]) == (
        2,
        4,
        0,
    )
    assert contents["proposals per image, median"] == 2
    assert contents["score, median"] == pytest.approx(0.7)
    of_image = 100 * np.array([20 * 30, 45 * 55]) / (HEIGHT * WIDTH)
    assert contents["area, % of the image, median"] == pytest.approx(of_image.mean(), rel=1e-3)
    size = sum(f.stat().st_size for f in (project / "data/proposals").rglob("*") if f.is_file())
    assert contents["bytes per proposal"] == pytest.approx(size / 4, abs=0.1)
    assert contents["supervision"] == "nobody's masks"
    assert "supervision\tnobody's masks\n" in wise("proposals", path)


def test_from_a_subfolder(project, monkeypatch):
    monkeypatch.chdir(project / "stages")
    assert "peaks\t4\n" in wise("peaks")
    assert "instances\t4\n" in wise("predictions", "data/predictions/val")


@pytest.mark.parametrize(
    ("words", "file", "tiles"),
    [
        (("proposals", "data/proposals", "first"), "first-proposals.png", (3, 1)),
        (("proposals", "data/proposals", "first", "--best", "1"), "first-proposals.png", (2, 1)),
        (("proposals", "data/proposals", "first", "--peaks"), "first-draws.png", (2, 2)),
        (("peaks", "data/peaks/val", "second"), "second-peaks.png", (3, 1)),
        (("predictions", "data/predictions", "second"), "second-predictions.png", (4, 2)),
    ],
)
def test_pictures(project, words, file, tiles):
    # A tile is 560 pixels wide, enlarged; the second peak lies in no proposal but its own.
    assert wise(*words) == f"{file}\n"
    width, height = Image.open(project / file).size
    assert abs(width - 568 * tiles[0]) < 20
    assert 420 * tiles[1] < height < 490 * tiles[1]


def test_temperature_and_seed_decide_what_is_drawn(project):
    def drawn(name, *options):
        words = ("proposals", "data/proposals", "first", "--peaks", "--out", name)
        wise(*words, *options)
        return (project / name).read_bytes()

    cold = drawn("a.png", "--temperature", "1e-6")
    assert cold == drawn("b.png", "--temperature", "1e-6", "--seed", "3")
    warm = {drawn("c.png", "--temperature", "100", "--seed", str(seed)) for seed in range(6)}
    assert len(warm) > 1


def test_without_options_the_draw_is_the_samplers(project, monkeypatch):
    sampler = {"temperature": 100.0, "agreement_power": 0.0, "max_overlap": 1.0}
    sampler |= {"draws_per_peak": 3, "seed": 0}
    shown = []
    module = importlib.import_module("wise.proposals")
    monkeypatch.setattr(module.sheets, "draw_sheet", lambda *of: shown.append(of[3]) or of[0])
    for seed in range(6):
        (project / "params.yaml").write_text(yaml.safe_dump({"sampler": sampler | {"seed": seed}}))
        wise("proposals", "data/proposals", "first", "--peaks")
        parameters = SamplerParameters.parse(sampler | {"seed": seed}, "sampler")
        of_stage = Sampler(project / "data/peaks/val", project / "data/proposals/val", parameters)
        np.testing.assert_array_equal(shown[-1].draw, of_stage("first").draw)
    assert len({draws.draw[:, 0].tobytes() for draws in shown}) > 1


def test_instances_below_the_score_are_not_drawn(project):
    def picture(score):
        wise("predictions", "data/predictions", "first", "--score", score, "--out", "a.png")
        return np.asarray(Image.open(project / "a.png"))[:840]  # above the caption

    assert (picture("0.5") == picture("0.3")).all()
    assert (picture("0.5") != picture("0.6")).any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("proposals", "data/proposals", "frist"), r"no image frist in .*did you mean first\?"),
        (("proposals", "data/peaks"), "written by the stage peaks, not by proposals"),
        (
            ("predictions", "nowhere"),
            "nowhere: no store here; create it with dvc repro",
        ),
        (("proposals", "data/proposals", "--peaks"), "--peaks needs an image"),
        (
            ("proposals", "data/proposals", "first", "--peaks", "--temperature", "0"),
            r"sampler\.temperature = 0",
        ),
    ],
)
def test_what_cannot_be_shown_is_said(project, words, message):
    with pytest.raises(InputError, match=message):
        wise(*words)
    assert not list(project.glob("*-*.png"))


def test_no_peaks_yet(project):
    (project / "data/peaks").rename(project / "data/gone")
    with pytest.raises(InputError, match="no store here; create it with dvc repro peaks"):
        wise("proposals", "data/proposals", "first", "--peaks")


def test_a_broken_store_is_named(project):
    (project / "data/peaks/val/zarr.json").write_text("{")
    with pytest.raises(InputError, match=r"val/zarr\.json: damaged .*dvc repro peaks"):
        wise("peaks")


def test_a_photograph_that_changed_is_noticed(project):
    Image.new("RGB", (30, 20)).save(project / "first.png")
    with pytest.raises(InputError, match="30 x 20 pixels, but 80 x 60"):
        wise("peaks", "data/peaks", "first")
