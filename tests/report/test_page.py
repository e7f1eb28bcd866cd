"""The page: what it says, what it holds, and what a browser makes of it."""

import base64
import hashlib
import io
import re
import shutil
from collections import Counter
from functools import cache
from itertools import pairwise

import html5lib
import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.draws import Draws, DrawStore, DrawWriter, FirstDraws
from pipeline.artifacts.instances import Instances, InstanceStore, InstanceWriter
from pipeline.artifacts.peaks import Peaks, PeakStore, PeakWriter, Points
from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.truth import TrueImage, TrueInstance, Truth
from pipeline.common import files, masks
from pipeline.common.errors import InputError
from pipeline.evaluation import by_size as breakdown
from pipeline.evaluation import stage_quality as recall
from pipeline.evaluation.intervals import differences
from pipeline.evaluation.protocols import EvaluationParameters, Method, pairs_of
from pipeline.evaluation.reliability import Reliability, reliability_curves
from pipeline.evaluation.summary import evaluate, mean_names
from pipeline.report import charts, failures
from pipeline.report.gallery import choose, examples, outline
from pipeline.report.page import ReportParameters
from stages import report as stage
from stages.common.shelf import Shelf
from tests.support import ROOT, screenshot
from tests.support import browser as browsers

HOSTILE = "<b>猫</b> & \"قط\"<script>alert('x')</script>"
CLASSES = (HOSTILE, "dog", "emu")  # no image shows an emu
HEIGHT, WIDTH = 60, 80
PARAMETERS = ReportParameters(images_per_class=1, image_size=64, min_relative_score=0.5, seed=0)
TEMPLATES = ROOT / "pipeline" / "report"
SVG = "{http://www.w3.org/2000/svg}"


def square(top, left, side):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def true_image(image_id, objects):
    """`objects` are pairs of label and mask."""
    drawn = [mask for _, mask in objects] + [np.zeros((HEIGHT, WIDTH), bool)]
    *counts, void = [rle["counts"].decode() for rle in masks.encode(np.stack(drawn))]
    instances = [TrueInstance(label=k, counts=c) for (k, _), c in zip(objects, counts, strict=True)]
    return TrueImage(
        id=image_id,
        height=HEIGHT,
        width=WIDTH,
        instances=tuple(instances),
        other_objects=0,
        void=void,
    )


def instances(*found):
    """`found` are triples of label, score and mask, best first."""
    return Instances(
        masks.encode(np.array([mask for *_, mask in found]).reshape(-1, HEIGHT, WIDTH)),
        np.array([label for label, *_ in found], np.int16),
        np.array([score for _, score, _ in found], np.float32),
    )


def points(*found):
    """`found` are triples of label, y and x."""
    label, y, x = np.array(found).reshape(-1, 3).T
    return Points(label.astype(np.int16), y.astype(np.int32), x.astype(np.int32))


def shelve(folder, with_truth):
    """Leave all that the stage reads: a few images of one or two squares."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 6), ("val", 4)):
        ids = [f"{name}_{number}" for number in range(count)]
        objects = [
            [(number % 2, square(5, 5, 20)), *([(1, square(30, 40, 25))] if number > 1 else [])]
            for number in range(count)
        ]
        photographs = []
        for image_id, of_image in zip(ids, objects, strict=True):
            pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            (folder / "photographs").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "photographs" / f"{image_id}.png")
            tags = tuple(CLASSES[k] for k in sorted({label for label, _ in of_image}))
            extent = {"height": HEIGHT, "width": WIDTH}
            file = f"{image_id}.png"
            photographs.append(Photograph(id=image_id, file=file, sha256="0", tags=tags, **extent))
        split = Split(
            root=str(folder / "photographs"), classes=CLASSES, photographs=tuple(photographs)
        )
        split.write(folder / "data" / "dataset" / f"{name}.json")
        judged = list(zip(ids, objects, strict=True)) if with_truth else []
        true = tuple(true_image(*pair) for pair in judged)
        Truth(classes=CLASSES, images=true).write(
            folder / "data" / "dataset" / "truth" / f"{name}.json"
        )
        for made in ("predictions", "refinement"):
            with InstanceWriter(folder / "data" / made / name, made, CLASSES, {}) as store:
                for number, image_id in enumerate(ids):
                    found = [(number % 2, 0.9, square(5, 5 + 2 * number, 20))][: number < 3]
                    store.add(image_id, HEIGHT, WIDTH, instances(*found))
        shapes = masks.encode(np.stack([square(5, 5, 20), square(30, 40, 20), square(0, 0, 60)]))
        proposals = Proposals(shapes, np.array([0.9, 0.8, 0.1], np.float32))
        where = folder / "data" / "proposals" / name
        with ProposalWriter(where, "grouping", "none & <nobody>", {"source": ""}) as store:
            for image_id in ids:
                store.add(image_id, HEIGHT, WIDTH, proposals)
        if name == "train":
            shelve_origins(folder / "data", ids)
    for training in ("prm", "mask_rcnn"):
        curve = folder / "data" / training / "curves" / "plots" / "metrics" / "loss.tsv"
        files.write_bytes(curve, b"step\tloss\n0\t2.5\n1\t1.5\n")
    shelve_evaluation(folder / "data")


def shelve_origins(data, ids):
    response = np.ones((1, 2, 2), np.float32) / 4
    with (
        PeakWriter(data / "peaks" / "train", CLASSES, {}) as peaks,
        DrawWriter(data / "sampler" / "train", CLASSES, {}) as draws,
    ):
        for number, image_id in enumerate(ids):
            at = points((number % 2, 10, 10))
            peaks.add(
                image_id,
                HEIGHT,
                WIDTH,
                Peaks(**vars(at), value=np.ones(1, np.float32), response=response),
            )
            drawn = Draws(
                label=at.label,
                candidate=[np.array([0, 2], np.int32)],
                probability=[np.array([0.9, 0.1], np.float32)],
                draw=np.array([[2 * (number % 2)]], np.int32),
                kept=np.ones(1, bool),
            )
            draws.add(image_id, HEIGHT, WIDTH, drawn)


def shelve_evaluation(data):
    parameters = EvaluationParameters(
        iou_thresholds=(0.25, 0.5, 0.75), max_detections=100, min_score=0.5
    )
    truth = {s: Truth.read(data / "dataset" / "truth" / f"{s}.json") for s in ("train", "val")}
    proposals = {s: ProposalStore(data / "proposals" / s) for s in truth}
    draws = DrawStore(data / "sampler" / "train")
    methods = {
        "pseudo_masks": Method(truth["train"], FirstDraws(draws, proposals["train"]), False),
        "wise": Method(truth["val"], InstanceStore(data / "predictions" / "val")),
        "wise+refine": Method(truth["val"], InstanceStore(data / "refinement" / "val")),
    }
    peaks = PeakStore(data / "peaks" / "train")
    quality = {
        "proposals": {s: recall.proposal_quality(truth[s], proposals[s]) for s in truth},
        "peaks": {"train": recall.peak_quality(truth["train"], peaks, proposals["train"], draws)},
    }
    pairs = {name: pairs_of(method, parameters) for name, method in methods.items()}
    evaluated = {name: evaluate(pairs[name], parameters) for name in methods}
    metrics = {name: numbers for name, (numbers, _) in evaluated.items()}
    estimates = {name: of_method for name, (_, of_method) in evaluated.items()}
    metrics["differences"] = differences(estimates, mean_names(parameters))
    files.write_json(data / "evaluation" / "metrics.json", metrics | quality)
    curves = {name: reliability_curves(pairs[name]["coco"]) for name in ("wise", "wise+refine")}
    Reliability(curves=curves).write(data / "evaluation" / "reliability.json")
    for name in ("predictions", "refinement"):
        Calibration.off(CLASSES).write(data / "calibration" / f"{name}.json")
    overlaps = {name: breakdown.overlaps(pairs[name]["wise"].pairs) for name in methods}
    breakdown.write_by_area(data / "evaluation" / "by_area.csv", overlaps)
    breakdown.write_by_count(data / "evaluation" / "by_count.csv", overlaps)


def run_in(folder):
    """Make the page of a folder as the stage does, there."""
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copy(ROOT / "presets" / "scenes.yaml", folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return stage.make_page(stage.results(Shelf()), PARAMETERS, folder / "work")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    shelve(folder, with_truth=True)
    return folder


@pytest.fixture(scope="module")
def page(project):
    return run_in(project)


@pytest.mark.parametrize(
    ("source", "trained"),
    [
        ("weights/sharpmask.safetensors", []),
        (
            "data/sharpmask/weights.safetensors",
            ["sharpmask, deepmask", "sharpmask, sharpening"],
        ),
    ],
)
def test_curves_are_those_of_a_sharpmask_that_was_trained_here(project, tmp_path, source, trained):
    folder = shutil.copytree(project, tmp_path / "copy")
    place = folder / "data" / "proposals" / "train"
    proposals = ProposalStore(project / "data" / "proposals" / "train")
    shutil.rmtree(place)
    with ProposalWriter(place, "sharpmask", "masks", {"source": source}) as store:
        for image_id in proposals:
            store.add(image_id, HEIGHT, WIDTH, proposals.proposals(image_id))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert list(stage.results(Shelf()).curves) == ["prm", "mask_rcnn", *trained]


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """The page of a run without true masks."""
    folder = tmp_path_factory.mktemp("blind")
    shelve(folder, with_truth=False)
    return run_in(folder)


@pytest.fixture(scope="module", params=["judged", "blind"])
def either(request, page, blind):
    return {"judged": page, "blind": blind}[request.param]


@cache
def parse(page):
    """Parse as browsers do; whatever they would have to repair is an error."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)


def text(element):
    return " ".join("".join(element.itertext()).split())


def test_the_page_is_html_without_a_fault(either):
    assert parse(either).find("body/main") is not None


def test_the_page_needs_nothing_else(either):
    tree = parse(either)
    kinds = Counter(element.tag for element in tree.iter() if isinstance(element.tag, str))
    assert not set(kinds) & {"link", "iframe", "object", "embed", "video", "form", "img", "b"}
    for element in tree.iter():
        for name, value in element.attrib.items():
            assert name not in ("src", "srcset", "poster", "data")
            if "href" in str(name):
                is_photograph = element.tag == f"{SVG}image"
                assert value.startswith("data:image/webp;base64," if is_photograph else "#")
            assert not str(name).startswith("on")
    (style,) = tree.iter("style")
    assert not re.search(r"url\(|@import|image-set", style.text)
    (policy,) = [m for m in tree.iter("meta") if "http-equiv" in m.attrib]
    assert policy.attrib["content"].startswith("default-src 'none'; img-src data:;")


def test_only_the_script_of_the_report_may_run(either):
    tree = parse(either)
    (script,) = tree.iter("script")
    assert script.text == (TEMPLATES / "script.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    (policy,) = [m for m in tree.iter("meta") if "http-equiv" in m.attrib]
    assert policy.attrib["content"].endswith(f"; script-src 'sha256-{digest}'")


def test_names_are_text(either):
    names = {text(name) for name in parse(either).iter("bdi")}
    assert HOSTILE in names
    assert "<script>alert" not in either
    assert "none & <nobody>" in text(parse(either))


def test_everything_has_a_name(either):
    tree = parse(either)
    pictures = [b for b in tree.iter("button") if "picture" in b.attrib.get("class", "")]
    assert pictures
    assert all(" photograph " in f" {b.attrib['aria-label']}" for b in pictures)
    for table in tree.iter("table"):
        assert text(table.find("caption"))
        assert all(h.attrib["scope"] in ("row", "col", "colgroup") for h in table.iter("th"))
    ids = [e.attrib["id"] for e in tree.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids))
    links = [e.attrib["href"] for e in tree.iter() if e.tag in ("a", f"{SVG}use")]
    cards = [e.attrib["data-card"] for e in tree.iter() if "data-card" in e.attrib]
    assert {href[1:] for href in links} | set(cards) <= set(ids)
    named = [e.attrib["aria-labelledby"] for e in tree.iter() if "aria-labelledby" in e.attrib]
    assert named
    assert set(named) <= set(ids)
    levels = [int(e.tag[1]) for e in tree.iter() if e.tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_supervision_is_repeated_in_every_table(page):
    tables = [t for t in parse(page).iter("table") if text(t.find("caption"))]
    numbers = [t for t in tables if t.find("caption").attrib.get("class") != "hidden"]
    assert len(numbers) > 6
    for table in numbers:
        assert "their supervision: none & <nobody>" in text(table.find("caption"))


def test_the_tables_hold_what_evaluation_found(project, page):
    headline, masks_ = rows_of(page, "mAP of masks"), rows_of(page, "Masks")
    metrics = yaml.safe_load((project / "data" / "evaluation" / "metrics.json").read_text())
    for name in ("pseudo_masks", "wise", "wise+refine"):
        both = [metrics[name][protocol] for protocol in ("coco", "wise")]
        wanted = [with_interval(of, f"mAP{t}") for of in both for t in (25, 50, 75)]
        (row,) = [cells for method, cells in headline.items() if method.split()[0] == name]
        assert row == wanted
        for at, of_protocol in zip((0, 7), both, strict=True):
            counts = [str(of_protocol[key]) for key in ("images", "instances")]
            assert masks_[name][at : at + 5] == counts + wanted[3 * (at > 0) :][:3]


def rows_of(page, caption):
    """The cells of a table by the name of their row."""
    tables = [t for t in parse(page).iter("table") if text(t.find("caption")).startswith(caption)]
    return {
        text(row.find("th")): [text(cell) for cell in row.iter("td")]
        for row in tables[0].iter("tr")
    }


def with_interval(numbers, name):
    low, high = numbers[f"{name}_interval"]
    return f"{numbers[name]:.1f} [{low:.1f}, {high:.1f}]"


def by_id(page, name):
    (element,) = [e for e in parse(page).iter() if e.attrib.get("id") == name]
    return element


def cards_of(element):
    return [f for f in element.iter("figure") if "card" in f.attrib.get("class", "").split()]


def test_the_page_opens_with_pictures_then_numbers_and_the_rest_is_folded(page):
    main = parse(page).find("body/main")
    sections = [section.attrib["id"] for section in main.findall("section")]
    assert sections == ["steps", "held-out", "numbers", "more"]
    assert [text(h) for h in by_id(page, "steps").iter("h3")] == ["Best", "Typical", "Worst"]
    assert [text(s) for s in by_id(page, "held-out").iter("strong")] == ["Best", "Typical", "Worst"]
    folded = [child for child in by_id(page, "more") if child.tag != "details"]
    assert folded == []
    assert not [d for d in by_id(page, "more").findall("details") if "open" in d.attrib]


def test_a_strip_shows_every_step_from_peaks_to_truth(page):
    steps = ["Peaks", "Pseudo masks", "Predictions", "Refined masks", "True masks"]
    for strip in by_id(page, "steps").iter("article"):
        assert [text(caption) for caption in strip.iter("figcaption")] == steps
        layers = [g.attrib["class"] for g in strip.iter(f"{SVG}g")]
        assert layers == ["peaks", "pseudo", "predictions", "refined", "truth"]


def test_every_photograph_is_stored_once(page):
    photographs = [i.attrib["id"] for i in parse(page).iter(f"{SVG}image")]
    cards = [f"photo-{c.attrib['id']}" for s in ("train", "val") for c in cards_of(by_id(page, s))]
    assert sorted(photographs) == sorted(cards)
    assert len(photographs) == 10  # few, so all are shown


def test_the_best_photographs_come_first(page):
    for split in ("train", "val"):
        captions = [text(card.find("figcaption")) for card in cards_of(by_id(page, split))]
        overlaps = [int(caption.split(" %")[0]) for caption in captions]
        assert overlaps == sorted(overlaps, reverse=True)
        assert len(set(overlaps)) > 1


def test_a_gallery_can_be_filtered_by_every_class(page):
    choices = [b.attrib["value"] for b in by_id(page, "val").iter("button") if "value" in b.attrib]
    assert choices == ["", "shows-0", "shows-1", "shows-2"]
    shown = Counter(
        c for card in cards_of(by_id(page, "val")) for c in card.attrib["class"].split()
    )
    assert shown == {"card": 4, "shows-0": 2, "shows-1": 3}  # none shows an emu


def test_layers_are_those_of_the_split(page):
    layers = {"predictions", "refined", "truth"}
    for split, of_split in (("val", layers), ("train", layers | {"pseudo", "peaks"})):
        gallery = by_id(page, split)
        assert {g.attrib["class"] for g in gallery.iter(f"{SVG}g")} == of_split
        assert {box.attrib["value"] for box in gallery.iter("input")} == of_split


def test_instances_say_their_class_score_and_iou(page):
    titles = [text(title) for title in by_id(page, "val").iter(f"{SVG}title")]
    assert "refined mask: dog, score 0.90, IoU 0.82" in titles
    assert "true mask: dog, IoU 0.82, right" in titles
    assert "true mask: dog, IoU 0.00, not found" in titles


def test_losses_link_to_photographs_that_show_them(page):
    links = list(by_id(page, "losses").iter("a"))
    assert len(links) > 4
    for link in links:
        tour = link.attrib["data-tour"].split()
        assert link.attrib["href"] == f"#{tour[0]}"
        _, label, outcome = link.attrib["data-sought"].split(".")
        for card in tour:
            shown = [p.attrib["class"].split() for p in by_id(page, card).iter(f"{SVG}path")]
            assert [label, outcome] in shown
    numbers = [text(td) for td in by_id(page, "losses").iter("td")]
    assert text(links[0]) in numbers


def test_without_truth_that_is_said_and_random_pictures_are_shown(blind):
    shown = text(parse(blind))
    assert "No image has true masks to compare the predictions with" in shown
    assert shown.count("failures cannot be counted") == 2
    assert [text(h) for h in by_id(blind, "steps").iter("h3")] == 3 * ["Random"]
    shown_for = [card.attrib["class"].split() for card in cards_of(by_id(blind, "train"))]
    assert len([classes for classes in shown_for if "shows-0" in classes]) == 3
    assert len([classes for classes in shown_for if "shows-1" in classes]) >= 3
    assert "overlap@10" not in shown


def test_the_same_run_makes_the_same_bytes(project, page):
    assert run_in(project) == page


def test_the_stage_leaves_its_page_and_says_what_is_in_it(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    stage.main()
    written = (project / "data" / "report" / "index.html").read_text()
    assert capsys.readouterr().out.startswith(f"report: {written.count('<image ')} pictures, ")
    assert not [p for p in (project / ".scratch" / "report").iterdir() if p.is_dir()]


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("evaluation/metrics.json", None, "metrics.json: missing; the stage"),
        ("evaluation/metrics.json", b"[1]", "metrics.json: not what evaluation writes"),
        ("evaluation/by_area.csv", b"side,wise\n5,many\n", "by_area.csv: not a table of numbers"),
        ("evaluation/by_count.csv", b"", "by_count.csv: not a table of numbers"),
        ("prm/curves/plots/metrics/loss.tsv", None, "prm/curves/plots/metrics: no curves"),
    ],
)
def test_what_is_missing_or_broken_is_named(project, path, content, message):
    file = project / "data" / path
    good = file.read_bytes()
    try:
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(message)):
            run_in(project)
    finally:
        file.write_bytes(good)


def test_templates_are_dependencies():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    templates = {f"pipeline/report/{p.name}" for p in TEMPLATES.iterdir() if p.suffix != ".py"}
    assert {d for d in templates if not d.endswith("__pycache__")} <= set(stages["report"]["deps"])


def test_nobody_learns_from_the_report():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, entry in stages.items():
        assert not [d for d in entry["deps"] if d.startswith("data/report")], name
    assert "data/evaluation/metrics.json" in stages["report"]["deps"]


def test_images_are_chosen_by_overlap_and_only_once():
    overlaps = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.9, "e": 0.0, "f": 0.4, "g": 0.6}
    chosen = choose(overlaps, [*overlaps, "x", "y"], 2, seed=1)
    assert chosen == {"best": ["b", "d"], "typical": ["g", "c"], "worst": ["a", "e"], "random": []}


def test_images_without_true_masks_take_the_place_of_missing_ones():
    assert choose({}, [], 2, seed=1) == {"best": [], "typical": [], "worst": [], "random": []}
    chosen = choose({"a": 1.0}, ["a", "x", "y", "z"], 1, seed=1)
    assert (chosen["best"], chosen["typical"], chosen["worst"]) == (["a"], [], [])
    assert len(set(chosen["random"])) == 2
    assert set(chosen["random"]) < {"x", "y", "z"}


def test_one_example_of_each_failure_is_added_if_no_picture_shows_it():
    images = {
        "dog": {"right": ["r"], "poor mask": ["a", "b"], "no peak": ["c", "d"]},
        "emu": {"right": [], "poor mask": ["e"], "no peak": []},
    }
    failed = failures.Failures(("right", "poor mask", "no peak"), images)
    assert examples(failed, {"b", "x"}) == {"c", "e"}


def test_every_fate_of_a_pseudo_mask():
    objects = [
        (0, square(0, 0, 10)),  # drawn as it is
        (0, square(0, 20, 10)),  # a good proposal at its peak, a poor one drawn
        (0, square(0, 40, 10)),  # only a poor proposal at its peak
        (0, square(0, 60, 10)),  # a peak of another class
        (1, square(40, 40, 10)),  # no peak
    ]
    shapes = [square(0, 0, 10), square(0, 20, 10), square(2, 22, 40), square(3, 43, 5)]
    proposals = Proposals(masks.encode(np.stack(shapes)), np.linspace(0.9, 0.1, 4, dtype="f4"))
    drawn = np.array([[0], [2], [3]], np.int32)
    draws = Draws(np.zeros(3, np.int16), [], [], drawn, np.ones(3, bool))
    peaks = points((0, 5, 5), (0, 5, 25), (0, 5, 45), (1, 5, 65))
    outcomes = failures.pseudo_mask_outcomes(true_image("a", objects), peaks, proposals, draws)
    assert outcomes == [
        (0, "right"),
        (0, "poor mask"),
        (0, "no proposal"),
        (0, "wrong class"),
        (1, "no peak"),
    ]
    assert set(failures.PSEUDO_MASK_OUTCOMES) == {outcome for _, outcome in outcomes}
    counted = failures.Failures.of_images(
        failures.PSEUDO_MASK_OUTCOMES, [("a", outcomes), ("b", outcomes[:1])], CLASSES
    )
    assert counted.images[HOSTILE]["right"] == ["a", "b"]
    assert counted.by_class["dog"] == {"no peak": 1}
    assert counted.total.total() == 6


def test_every_fate_of_a_prediction():
    objects = [(0, square(0, left, 10)) for left in (0, 20, 40, 60)]
    found = instances(
        (0, 0.9, square(0, 2, 10)), (1, 0.8, square(0, 20, 10)), (0, 0.7, square(5, 45, 10))
    )
    outcomes = failures.prediction_outcomes(true_image("a", objects), found)
    assert [outcome for _, outcome in outcomes] == [
        "right",
        "wrong class",
        "poor mask",
        "not found",
    ]
    assert failures.prediction_outcomes(true_image("a", []), found) == []
    assert failures.prediction_outcomes(true_image("a", objects[:1]), instances()) == [
        (0, "not found")
    ]


def raster(path, width, height):
    """Fill SVG path data of moves, relative lines and ends by the even-odd rule."""
    mask = np.zeros((height, width), bool)
    for ring in filter(None, path.split("z")):
        numbers = [int(number) for number in re.findall(r"-?\d+", ring)]
        corners = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0)
        image = Image.new("1", (width, height))
        ImageDraw.Draw(image).polygon([tuple(map(int, c)) for c in corners], fill=1)
        mask ^= np.asarray(image)
    return mask


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_an_outline_is_the_mask_s(scale):
    y, x = np.mgrid[:240, :320]
    distance = np.hypot(y - 90, x - 250)  # cut by the right border, with a hole
    mask = (distance < 85) & (distance > 30) | (np.hypot(y - 170, x - 60) < 40)
    (rle,) = masks.encode(mask[None])
    height, width = (int(scale * n) for n in mask.shape)
    small = np.asarray(Image.fromarray(mask).resize((width, height)))
    drawn = raster(outline(rle, scale), width, height)
    assert (small & drawn).sum() / (small | drawn).sum() > 0.93


def test_a_method_that_was_not_run_is_no_line(tmp_path):
    path = tmp_path / "by_area.csv"
    path.write_text("side,wise,mask_rcnn_gt\n5.0,nan,nan\n15.0,4.50,nan\n")
    plot = charts.read_plot(path)
    assert plot.labels == ["5", "15"]
    assert [(line.name, list(line.values)) for line in plot.known()] == [("wise", [None, 4.5])]


def test_what_is_less_than_a_pixel_has_no_outline():
    (speck,) = masks.encode(square(7, 7, 1)[None])
    assert outline(speck, 0.25) == ""


@pytest.mark.parametrize(
    ("highest", "last", "count"), [(0.0, 1.0, 2), (1.0, 1.0, 6), (3.65, 4.0, 5), (0.0712, 0.08, 5)]
)
def test_an_axis_ends_on_a_round_number_above(highest, last, count):
    levels = charts.axis(highest)
    assert levels[0] == 0
    assert levels[-1] == pytest.approx(last)
    assert len(levels) == count


def test_a_line_is_broken_where_nothing_is_known():
    series = [charts.Series("a", [1.0, None, 1.0, 0.5])]
    (path,) = charts.line_chart("t", "x", ["1", "2", "3", "4"], series).paths
    assert path.count("M") == 2
    assert path.count("L") == 1


def luminance(color):
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_contrast_is_enough_in_light_and_dark():
    style = (TEMPLATES / "style.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    for theme in (light, dark):
        colors = dict(re.findall(r"--([\w-]+): (#\w{6})", theme))
        for name, least in {"ink": 7, "muted": 4.5, "accent": 4.5}.items() | {
            (f"series-{k}", 3) for k in range(6)
        }:
            brightness = sorted(luminance(colors[key]) for key in (name, "paper"))
            assert (brightness[1] + 0.05) / (brightness[0] + 0.05) >= least, name


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (browsers.CHROMIUM and browsers.DRIVER):
        pytest.skip("no Chromium with its driver on this machine")
    driver = browsers.start(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def file(page, tmp_path):
    file = tmp_path / "index.html"
    file.write_text(page)
    return file


@pytest.fixture
def opened(browser, file):
    """The page, opened from its file on a narrow screen."""
    browsers.set_screen(browser, 390, 844, mobile=True)
    for log in ("browser", "performance"):
        browser.get_log(log)  # what came before is forgotten
    browser.get(file.as_uri())
    return browser


def press(browser, *keys):
    ActionChains(browser).send_keys(*keys).perform()


def of_viewer(browser, selector):
    return browser.find_elements("css selector", f"#viewer[open] :is({selector})")


def is_shown(browser, selector):
    script = "return getComputedStyle(document.querySelector(arguments[0])).display != 'none'"
    return browser.execute_script(script, selector)


def enlarge_first(browser):
    """Enlarge the first picture of the page by keyboard, and return its button."""
    button = browser.find_element("css selector", "[data-card]")
    browser.execute_script("arguments[0].focus()", button)
    press(browser, Keys.ENTER)
    return button


def test_a_browser_finds_no_fault_and_asks_for_nothing_else(opened):
    assert opened.get_log("browser") == []
    sent = re.findall(r'"url\\?":\\?"([a-z]+):', str(opened.get_log("performance")))
    assert "file" in sent
    assert set(sent) <= {"file", "data"}


def test_a_phone_scrolls_in_one_direction_only(opened):
    width = "return document.documentElement.scrollWidth"
    assert opened.execute_script(width) == 390
    opened.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert opened.execute_script(width) == 390


def test_focus_can_be_seen(opened):
    press(opened, Keys.TAB)
    link = opened.switch_to.active_element
    assert link.text == "Skip to the numbers"
    style = "const s = getComputedStyle(arguments[0]); return [s.outlineStyle, s.outlineWidth]"
    assert opened.execute_script(style, link) == ["solid", "3px"]
    assert opened.execute_script("return arguments[0].getBoundingClientRect().left", link) >= 0


def test_a_photograph_is_enlarged_and_left_by_keyboard(opened):
    button = enlarge_first(opened)
    title, place = of_viewer(opened, "#viewer-title, .place")
    first = title.text
    assert place.text == "1 of 3"
    press(opened, Keys.ARROW_RIGHT)
    assert place.text == "2 of 3"
    assert title.text != first
    press(opened, Keys.ARROW_LEFT, Keys.ARROW_LEFT)  # round the end
    assert place.text == "3 of 3"
    press(opened, Keys.ESCAPE)
    assert not of_viewer(opened, "svg")
    assert opened.switch_to.active_element == button


def test_layers_are_switched_by_keys(opened):
    enlarge_first(opened)  # of the peaks
    layers = ["peaks", "pseudo", "predictions", "refined", "truth"]
    shown = [is_shown(opened, f"#viewer .{layer}") for layer in layers]
    assert shown == [True, False, False, False, False]
    press(opened, *"12345")
    assert [is_shown(opened, f"#viewer .{layer}") for layer in layers] == [not on for on in shown]
    boxes = of_viewer(opened, "input")
    assert [box.is_selected() for box in boxes] == [not on for on in shown]
    boxes[1].send_keys(Keys.SPACE)
    assert not is_shown(opened, "#viewer .pseudo")


def test_an_instance_names_itself_to_pointer_and_keyboard(opened):
    browsers.set_screen(opened, 1280, 800)
    opened.find_element("css selector", "#held-out [data-card]").click()
    (label,) = of_viewer(opened, ".label")
    assert not label.is_displayed()
    shape = of_viewer(opened, ".refined path")[0]
    ActionChains(opened).move_to_element(shape).perform()
    assert re.fullmatch(r"refined mask: .+, score 0\.\d\d, IoU \d\.\d\d", label.text)
    opened.execute_script("arguments[0].focus()", of_viewer(opened, ".truth path")[0])
    assert label.text.startswith("true mask: ")


def test_a_loss_shows_its_photographs_and_marks_its_instances(opened):
    opened.execute_script("document.getElementById('losses').open = true")
    link = opened.find_elements("css selector", "#losses a[data-sought$='no-peak']")[-1]
    opened.execute_script("arguments[0].focus()", link)
    press(opened, Keys.ENTER)
    tour = link.get_attribute("data-tour").split()
    assert of_viewer(opened, ".place")[0].text == f"1 of {len(tour)}"
    assert of_viewer(opened, ".truth .sought")


def test_a_gallery_shows_one_class_and_arrows_stay_in_it(opened):
    opened.execute_script("document.getElementById('val').open = true")
    choice = opened.find_element("css selector", "#val button[value='shows-0']")
    opened.execute_script("arguments[0].click()", choice)
    assert choice.get_attribute("aria-pressed") == "true"
    cards = opened.find_elements("css selector", "#val .card:not([hidden])")
    assert len(cards) == 2
    opened.execute_script("arguments[0].querySelector('button').click()", cards[1])
    assert of_viewer(opened, ".place")[0].text == "2 of 2"


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_an_enlarged_photograph_fits_on_the_screen(opened, width, height):
    browsers.set_screen(opened, width, height)
    enlarge_first(opened)
    script = (
        "const b = arguments[0].getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]"
    )
    for element in of_viewer(opened, ".drawing svg, button, label"):
        left, top, right, bottom = opened.execute_script(script, element)
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
    drawing = opened.execute_script(script, of_viewer(opened, ".drawing svg")[0])
    assert drawing[2] - drawing[0] > 0.7 * min(width, height)


def test_the_picture_for_the_readme_is_small(browser, file):
    content = screenshot.screenshot(browser, file)
    assert len(content) <= 250_000
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("JPEG", (1280, 1500))


def test_what_was_counted_and_painted_is_not_made_again(project, page):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for name in ("count_failures", "choose_pictures"):
            patch.setattr(stage, name, None)
        assert stage.make_page(stage.results(Shelf()), PARAMETERS, project / "work") == page
