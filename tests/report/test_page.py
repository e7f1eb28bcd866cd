"""The page: what it says, what it holds, and what a browser makes of it."""

import re
import shutil
from collections import Counter
from itertools import pairwise

import html5lib
import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw
from selenium import webdriver
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
from pipeline.report.gallery import choose, outline
from pipeline.report.page import ReportParameters
from stages import report as stage
from stages.common.shelf import Shelf
from tests.support import ROOT

HOSTILE = "<b>猫</b> & \"قط\"<script>alert('x')</script>"
CLASSES = (HOSTILE, "dog", "emu")  # no image shows an emu
HEIGHT, WIDTH = 60, 80
PARAMETERS = ReportParameters(images_per_class=1, image_size=64, min_relative_score=0.5, seed=0)
TEMPLATES = ROOT / "pipeline" / "report"
SVG = "{http://www.w3.org/2000/svg}"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
BROWSER_ARGUMENTS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run"),
    *("disable-quic", "disable-background-networking", "disable-component-update", "disable-sync"),
)


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
        with ProposalWriter(where, "grouping", "none & <nobody>", {}) as store:
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


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """The page of a run without true masks."""
    folder = tmp_path_factory.mktemp("blind")
    shelve(folder, with_truth=False)
    return run_in(folder)


@pytest.fixture(scope="module", params=["judged", "blind"])
def either(request, page, blind):
    return {"judged": page, "blind": blind}[request.param]


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
    assert not set(kinds) & {"script", "link", "iframe", "object", "embed", "video", "form", "b"}
    for element in tree.iter():
        for name, value in element.attrib.items():
            if name in ("src", "srcset", "poster", "data"):
                assert value.startswith("data:image/webp;base64,")
            if "href" in str(name):
                assert value.startswith("#")
            assert not str(name).startswith("on")
    (style,) = tree.iter("style")
    assert not re.search(r"url\(|@import|image-set", style.text)
    (policy,) = [m for m in tree.iter("meta") if "http-equiv" in m.attrib]
    assert policy.attrib["content"].startswith("default-src 'none'; img-src data:;")


def test_names_are_text(either):
    headings = [text(h) for h in parse(either).iter("h3")]
    assert headings.count(HOSTILE) == 2  # one in each gallery
    assert "<script" not in either
    assert "none & <nobody>" in text(parse(either))


def test_everything_has_a_name(either):
    tree = parse(either)
    assert all(image.attrib["alt"].startswith("Photograph ") for image in tree.iter("img"))
    for table in tree.iter("table"):
        assert text(table.find("caption"))
        assert all(h.attrib["scope"] in ("row", "col", "colgroup") for h in table.iter("th"))
    ids = [e.attrib["id"] for e in tree.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids))
    assert {a.attrib["href"][1:] for a in tree.iter("a")} <= set(ids)
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
    (means, *_) = parse(page).iter("table")
    rows = {text(row.find("th")): [text(c) for c in row.iter("td")] for row in means.iter("tr")}
    metrics = yaml.safe_load((project / "data" / "evaluation" / "metrics.json").read_text())
    for name in ("pseudo_masks", "wise", "wise+refine"):
        wanted = [
            value
            for numbers in (metrics[name][protocol] for protocol in ("coco", "wise"))
            for value in (
                *(str(numbers[key]) for key in ("images", "instances")),
                *(with_interval(numbers, key) for key in ("mAP25", "mAP50")),
            )
        ]
        assert rows[name][:4] + rows[name][7:11] == wanted


def with_interval(numbers, name):
    low, high = numbers[f"{name}_interval"]
    return f"{numbers[name]:.1f} [{low:.1f}, {high:.1f}]"


def test_every_class_has_pictures_or_is_said_to_have_none(page):
    of_classes = [s for s in parse(page).iter("section") if s.attrib.get("class") == "class"]
    chosen = [[text(h) for h in section.iter("h4")] for section in of_classes]
    some, all_three = ["best", "worst"], ["best", "worst", "random"]
    assert chosen == [some, all_three, [], all_three, all_three, []]
    assert [text(of_classes[k].find("p")) for k in (2, 5)] == 2 * ["No image shows this class."]


def test_layers_are_those_of_the_split(page):
    galleries = [s for s in parse(page).iter("section") if s.attrib.get("class") == "gallery"]
    layers = [{g.attrib["class"] for g in gallery.iter(f"{SVG}g")} for gallery in galleries]
    assert layers[0] == {"predictions", "refined", "truth"}
    assert layers[1] == {"predictions", "refined", "truth", "pseudo", "peaks"}
    for gallery, of_gallery in zip(galleries, layers, strict=True):
        assert {box.attrib["value"] for box in gallery.iter("input")} == of_gallery


def test_without_truth_that_is_said_and_random_pictures_are_shown(blind):
    shown = text(parse(blind))
    assert "No image has true masks to compare the predictions with" in shown
    assert shown.count("failures cannot be counted") == 2
    assert {text(h) for h in parse(blind).iter("h4")} == {"random"}
    assert "overlap@10" not in shown


def test_the_navigation_names_the_sections(page):
    links = [text(link) for link in parse(page).find(".//nav").iter("a")]
    sections = ["Results", "Failures", "Curves", "Evaluation images", "Training images"]
    assert links == sections


def test_the_same_run_makes_the_same_bytes(project, page):
    assert run_in(project) == page


def test_the_stage_leaves_its_page_and_says_what_is_in_it(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    stage.main()
    written = (project / "data" / "report" / "index.html").read_text()
    assert capsys.readouterr().out.startswith(f"report: {written.count('<img ')} pictures, ")
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
    overlaps = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.9, "e": 0.0}
    chosen = choose(overlaps, ["a", "b", "c", "d", "e", "x", "y"], 2, seed=1)
    assert chosen["best"] == ["b", "d"]
    assert chosen["worst"] == ["e", "a"]
    assert len(chosen["random"]) == 2
    assert set(chosen["random"]) < {"c", "x", "y"}
    assert choose({}, [], 2, seed=1) == {"best": [], "worst": [], "random": []}
    assert choose({"a": 1.0}, ["a"], 2, seed=1) == {"best": ["a"], "worst": [], "random": []}


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
    counted = failures.FailureCounts.count(failures.PSEUDO_MASK_OUTCOMES, outcomes, CLASSES)
    assert counted.by_class["dog"] == {"no peak": 1}
    assert counted.total.total() == 5


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
    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium with its driver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in BROWSER_ARGUMENTS:
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, page, tmp_path):
    """The page, opened from its file on a narrow screen."""
    file = tmp_path / "index.html"
    file.write_text(page)
    screen = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    for log in ("browser", "performance"):
        browser.get_log(log)  # what came before is forgotten
    browser.get(file.as_uri())
    return browser


def shown(browser, layer):
    script = "return getComputedStyle(document.querySelector(arguments[0])).display != 'none'"
    return browser.execute_script(script, f"#train .picture .{layer}")


def test_a_browser_finds_no_fault_and_asks_for_nothing_else(opened):
    assert opened.get_log("browser") == []
    sent = re.findall(r'"url\\?":\\?"([a-z]+):', str(opened.get_log("performance")))
    assert "file" in sent
    assert set(sent) <= {"file", "data"}
    loaded = "return [...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)"
    assert opened.execute_script(loaded)


def test_a_phone_scrolls_in_one_direction_only(opened):
    width = opened.execute_script("return document.documentElement.scrollWidth")
    assert width == 360


def test_layers_switch_by_keyboard(opened):
    first, checked = {}, {}
    opened.execute_script("document.querySelector('#train .class').scrollIntoView()")
    body = opened.find_element("tag name", "body")
    for _ in range(60):
        body.send_keys(Keys.TAB)
        focused = opened.switch_to.active_element
        layer = focused.get_attribute("value")
        in_train = "return arguments[0].closest('#train') !== null"
        if focused.tag_name == "input" and opened.execute_script(in_train, focused):
            first[layer] = shown(opened, layer)
            assert first[layer] == focused.is_selected()
            focused.send_keys(Keys.SPACE)
            checked[layer] = shown(opened, layer)
        body = focused
    assert set(first) == {"peaks", "pseudo", "predictions", "refined", "truth"}
    assert checked == {layer: not was for layer, was in first.items()}


def test_focus_can_be_seen(opened):
    opened.find_element("tag name", "body").send_keys(Keys.TAB)
    link = opened.switch_to.active_element
    assert link.text == "Skip to the results"
    style = "const s = getComputedStyle(arguments[0]); return [s.outlineStyle, s.outlineWidth]"
    assert opened.execute_script(style, link) == ["solid", "3px"]
    assert opened.execute_script("return arguments[0].getBoundingClientRect().left", link) >= 0


def test_what_was_counted_and_painted_is_not_made_again(project, page):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for name in ("count_failures", "choose_pictures"):
            patch.setattr(stage, name, None)
        assert stage.make_page(stage.results(Shelf()), PARAMETERS, project / "work") == page
