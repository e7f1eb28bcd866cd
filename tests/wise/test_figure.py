"""`wise figure`: rows of pictures, for images of a tiny project."""

import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.instances import Instances, InstanceWriter
from pipeline.artifacts.peaks import PeakWriter
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.truth import TrueImage, TrueInstance, Truth
from pipeline.artifacts.weights import write_weights
from pipeline.classifier.network import Prm, PrmDescription
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.drawing import figure
from pipeline.pseudo_masks.sampler import Sampler, SamplerParameters
from stages.common.parameters import read_parameters
from stages.common.shelf import Shelf
from tests.support import ROOT
from wise import app
from wise.figure import Evaluated

HEIGHT, WIDTH, CLASSES = 60, 80, ("cat", "dog")
RIM = 8  # of the sheet, pixels
PRM = PrmDescription(backbone="tf_efficientnet_lite0", classes=CLASSES, image_size=64, upsample=2)


def photograph(image_id, tags):
    file = f"{image_id}.png"
    extent = {"height": HEIGHT, "width": WIDTH}
    return Photograph(id=image_id, file=file, sha256="", tags=tags, **extent)


def test_images_are_chosen_class_by_class():
    tags = [("dog",), ("cat", "dog"), ("cat",), (), ("dog",), ("cat",)]
    photographs = [photograph(str(number), of) for number, of in enumerate(tags)]
    assert figure.choose(photographs, CLASSES, 3) == ["1", "0", "2"]
    assert figure.choose(photographs, CLASSES, 9) == ["1", "0", "2", "5", "4", "3"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Three evaluation images: with true masks, without any, and with nothing found."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "stages").mkdir()
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copy(ROOT / "presets" / "scenes.yaml", folder / "params.yaml")
    data, names = folder / "data", ("judged", "blind", "empty")
    write_weights(data / "prm" / "weights.safetensors", Prm(PRM, weights="none"), PRM)
    for name in names:
        grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        Image.fromarray(grey).save(folder / f"{name}.png")
    photographs = [photograph("judged", ("cat",)), photograph("blind", ("dog",))]
    photographs.append(photograph("empty", ()))
    split = Split(root=".", classes=CLASSES, photographs=tuple(photographs))
    split.write(data / "dataset" / "val.json")
    shapes = np.zeros((2, HEIGHT, WIDTH), bool)
    shapes[0], shapes[1, 20:40, 20:60] = True, True
    everything, (middle,) = masks.encode(shapes[:1]), masks.encode(shapes[1:])
    (void,) = masks.encode(np.zeros((1, HEIGHT, WIDTH), bool))
    instance = TrueInstance(label=0, counts=middle["counts"].decode())
    true = TrueImage(
        id="judged",
        height=HEIGHT,
        width=WIDTH,
        instances=(instance,),
        other_objects=0,
        void=void["counts"].decode(),
    )
    Truth(classes=CLASSES, images=(true,)).write(data / "dataset" / "truth" / "val.json")
    for stage in ("predictions", "refinement"):
        Calibration.off(CLASSES).write(data / "calibration" / f"{stage}.json")
    with (
        ProposalWriter(data / "proposals" / "val", "boxes", "nobody's masks", {}) as proposals,
        InstanceWriter(data / "predictions" / "val", "predictions", CLASSES, {}) as predictions,
        InstanceWriter(data / "refinement" / "val", "refinement", CLASSES, {}) as refinement,
    ):
        for name in names:
            found = [] if name == "empty" else [middle]
            label, score = np.zeros(len(found), np.int16), np.full(len(found), 0.6, np.float32)
            proposals.add(name, HEIGHT, WIDTH, Proposals(everything, np.ones(1, np.float32)))
            for store in (predictions, refinement):
                store.add(name, HEIGHT, WIDTH, Instances(found, label, score))
    return folder


def panels(path):
    """The pictures of a sheet by row and column, without headings and captions."""
    sheet = np.asarray(Image.open(path))
    high = figure.SIDE * HEIGHT // WIDTH
    grey = (sheet[:, RIM] == 128).all(axis=1)  # the left edges of the photographs
    tops = np.flatnonzero(grey & ~np.roll(grey, 1))
    lefts = range(RIM, sheet.shape[1], figure.SIDE + RIM)
    return [[sheet[y : y + high, x : x + figure.SIDE] for x in lefts] for y in tops]


def untouched(picture):
    return bool((picture == 128).all())


def only_the_middle_is_tinted(picture):
    high, wide = picture.shape[:2]
    middle = picture[3 * high // 8 : 5 * high // 8, 3 * wide // 8 : 5 * wide // 8]
    around = [picture[: high // 4], picture[3 * high // 4 :], picture[:, : wide // 5]]
    return bool((middle != 128).any(axis=2).all()) and all(map(untouched, around))


def draw(project, monkeypatch, *words):
    monkeypatch.chdir(project / "stages")
    done = CliRunner().invoke(app, ["figure", *words])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_a_row_shows_what_was_made_of_an_image(project, monkeypatch):
    path = project / "figure.png"
    printed = draw(project, monkeypatch, "judged", "blind", "empty", "--out", str(path))
    assert printed == f"{path}\n"
    judged, blind, empty = panels(path)
    assert len(judged) == len(blind) == len(empty) == len(figure.HEADINGS)
    photograph, response, pseudo, *later = judged
    assert untouched(photograph)
    assert not untouched(response)
    assert (pseudo != 128).any(axis=2).all()  # the one proposal is the whole image
    assert all(map(only_the_middle_is_tinted, later))
    assert only_the_middle_is_tinted(blind[4])
    assert untouched(blind[5])
    assert all(map(untouched, empty[2:]))


def test_a_row_draws_what_the_sampler_draws(project, tmp_path, monkeypatch):
    folder = shutil.copytree(project, tmp_path / "copy")
    shapes = np.ones((50, HEIGHT, WIDTH), bool)
    shapes[range(50), 0, range(50)] = False  # each lacks another pixel
    proposals = Proposals(masks.encode(shapes), np.ones(50, np.float32))
    store = folder / "data" / "proposals" / "val"
    shutil.rmtree(store)
    with ProposalWriter(store, "boxes", "nobody's masks", {}) as written:
        for name in ("judged", "blind", "empty"):
            written.add(name, HEIGHT, WIDTH, proposals)
    monkeypatch.chdir(folder)
    opened = Evaluated(Shelf())
    rows = [opened.row(found, 0.5) for found in opened.find(["judged", "blind"])]
    with PeakWriter(folder / "data" / "peaks" / "val", CLASSES, {}) as peaks:
        for row in rows:
            peaks.add(row.image_id, HEIGHT, WIDTH, row.peaks)
    parameters = read_parameters(SamplerParameters, "sampler")
    sampler = Sampler(folder / "data" / "peaks" / "val", store, parameters)
    for row in rows:
        assert len(row.pseudo_masks.label) > 0
        drawn = sampler(row.image_id).instances(proposals, epoch=0)
        assert row.pseudo_masks.masks == drawn.masks


def test_without_a_wish_judged_images_are_drawn_on_the_shelf(project, monkeypatch):
    path = project / "data" / "figure.png"
    assert draw(project, monkeypatch) == f"{path}\n"
    assert len(panels(path)) == 1
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert f"/{path.relative_to(project)}" in ignored


def test_an_unknown_image_is_named(project, monkeypatch):
    with pytest.raises(InputError, match=r"no evaluation image judgd; available: judged, \.\.\."):
        draw(project, monkeypatch, "judgd")
