import gzip
import json
import math
import shutil

import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.coco import write_results
from pipeline.artifacts.draws import Draws, DrawStore, DrawWriter, FirstDraws
from pipeline.artifacts.instances import Instances, InstanceStore, InstanceWriter
from pipeline.artifacts.peaks import Peaks, PeakWriter
from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.truth import TrueImage, TrueInstance, Truth
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.evaluation.measures import matched
from pipeline.evaluation.protocols import EvaluationParameters, Method, pairs_of
from pipeline.evaluation.summary import evaluate
from stages import evaluation as stage
from stages.common.shelf import Shelf

CLASSES = ("cat", "dog", "emu")
HEIGHT, WIDTH = 20, 30
VALUES = {"iou_thresholds": [0.25, 0.5, 0.75], "max_detections": 100, "min_score": 0.5}
NOTHING = np.zeros((HEIGHT, WIDTH), bool)


def square(top, left, side):
    mask = NOTHING.copy()
    mask[top : top + side, left : left + side] = True
    return mask


def true_image(image_id, objects, void=NOTHING, other_objects=0):
    """`objects` are pairs of label and mask."""
    counts = [
        rle["counts"].decode() for rle in masks.encode(np.stack([m for _, m in objects] + [void]))
    ]
    instances = [
        TrueInstance(label=k, counts=c) for (k, _), c in zip(objects, counts, strict=False)
    ]
    return TrueImage(
        id=image_id,
        height=HEIGHT,
        width=WIDTH,
        instances=tuple(instances),
        other_objects=other_objects,
        void=counts[-1],
    )


def found(*detections):
    """`detections` are triples of label, score and mask."""
    ordered = sorted(detections, key=lambda detection: -detection[1])
    return Instances(
        masks.encode(np.array([mask for *_, mask in ordered]).reshape(-1, HEIGHT, WIDTH)),
        np.array([label for label, *_ in ordered], np.int16),
        np.array([score for _, score, _ in ordered], np.float32),
    )


def scores_of(method, **changed):
    parameters = EvaluationParameters.parse({**VALUES, **changed}, "evaluation")
    return evaluate(pairs_of(method, parameters), parameters)[0]


@pytest.fixture
def judge(tmp_path):
    """Evaluate detections (image -> instances) against true images."""

    def evaluate(images, detections, **changed):
        with InstanceWriter(tmp_path / "store", "predictions", CLASSES, {}) as writer:
            for image_id, instances in detections.items():
                writer.add(image_id, HEIGHT, WIDTH, instances)
        method = Method(
            Truth(classes=CLASSES, images=tuple(images)), InstanceStore(tmp_path / "store")
        )
        return scores_of(method, **changed)

    return evaluate


def random_case(seed, images=12):
    """True images and noisy detections of two classes; some images have neither."""
    rng = np.random.default_rng(seed)

    def some(most):
        corners = rng.integers(0, [HEIGHT - 4, WIDTH - 4], (rng.integers(0, most), 2))
        return [(int(rng.integers(2)), y, x, int(rng.integers(4, 9))) for y, x in corners]

    truth, detections = [], {}
    for number in range(images):
        objects = some(4)
        near = [(k, max(0, y + rng.integers(-2, 3)), x, s) for k, y, x, s in objects]
        truth.append(true_image(f"image {number}", [(k, square(*rest)) for k, *rest in objects]))
        detections[f"image {number}"] = found(
            *((k, rng.random(), square(*rest)) for k, *rest in near + some(3))
        )
    return truth, detections


def box(rle):
    """The box (x, y, width, height) around a mask's pixels."""
    (mask,) = masks.decode([rle], HEIGHT, WIDTH)
    y, x = np.nonzero(mask)
    return [int(n) for n in (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "prefix"), [("segm", ""), ("bbox", "box_")])
def test_average_precision_is_that_of_the_coco_tools_on_files(judge, tmp_path, seed, kind, prefix):
    truth, detections = random_case(seed)
    annotations, results = [], []
    for number, image in enumerate(truth):
        for instance, rle in zip(image.instances, image.masks(), strict=True):
            common = {"image_id": number, "category_id": instance.label, "iscrowd": 0}
            code = {"size": rle["size"], "counts": instance.counts}
            common |= {"area": int(masks.area([rle])[0]), "bbox": box(rle)}
            annotations.append({"id": len(annotations) + 1, "segmentation": code, **common})
        mine = detections[image.id]
        for rle, label, score in zip(mine.masks, mine.label, mine.score, strict=True):
            code = {"size": rle["size"], "counts": rle["counts"].decode()}
            results.append(
                {
                    "image_id": number,
                    "category_id": int(label),
                    "segmentation": code,
                    "bbox": box(rle),
                    "score": float(score),
                }
            )
    frames = [{"id": n, "height": HEIGHT, "width": WIDTH} for n in range(len(truth))]
    categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES)]
    content = {"images": frames, "categories": categories, "annotations": annotations}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(results))
    coco = COCO(str(tmp_path / "truth.json"))
    tool = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), kind)
    tool.params.iouThrs = np.array([0.25, 0.5, 0.75])
    tool.evaluate()
    tool.accumulate()
    expected = 100 * tool.eval["precision"][:, :, :2, 0, -1].mean(axis=1)

    scores = judge(truth, detections)["coco"]
    for label, name in enumerate(CLASSES[:2]):
        for row, column in enumerate(("AP25", "AP50", "AP75")):
            assert scores["per_class"][name][prefix + column] == pytest.approx(
                expected[row, label], abs=1e-3
            )
    means = [scores[f"{prefix}mAP{threshold}"] for threshold in (25, 50, 75)]
    assert means == pytest.approx(list(expected.mean(axis=1)), abs=1e-3)
    assert set(scores["per_class"]["emu"].values()) == {None}


def test_average_best_overlap_is_that_of_a_plain_loop(judge):
    truth, detections = random_case(7)
    best = {0: [], 1: []}
    for image in truth:
        mine = detections[image.id]
        pixels = masks.decode(mine.masks, HEIGHT, WIDTH)
        for instance, mask in zip(
            image.instances, masks.decode(image.masks(), HEIGHT, WIDTH), strict=True
        ):
            overlaps = [0.0]
            for label, other in zip(mine.label, pixels, strict=True):
                if label == instance.label:
                    overlaps.append((mask & other).sum() / (mask | other).sum())
            best[instance.label].append(max(overlaps))
    expected = [100 * np.mean(best[label]) for label in (0, 1)]
    scores = judge(truth, detections)["coco"]
    assert scores["ABO"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert scores["per_class"]["cat"]["ABO"] == pytest.approx(expected[0], abs=1e-3)


def test_average_precision_by_hand(judge):
    # Two cats; by score: right, wrong, right. Precision 1 up to recall 0.5 (51 points of the
    # 101), then 2/3 (50 points).
    first, second = square(0, 0, 4), square(10, 10, 4)
    image = true_image("a", [(0, first), (0, second)])
    detections = found((0, 0.9, first), (0, 0.8, square(0, 20, 4)), (0, 0.7, second))
    scores = judge([image], {"a": detections})["coco"]
    assert scores["mAP75"] == pytest.approx(100 * (51 + 50 * 2 / 3) / 101, abs=1e-4)
    assert (scores["ABO"], scores["images"], scores["instances"]) == (100, 1, 2)


def test_an_object_is_found_once(judge):
    cat = square(0, 0, 4)
    image = true_image("a", [(0, cat), (0, square(10, 10, 4))])
    scores = judge([image], {"a": found((0, 0.9, cat), (0, 0.8, cat))})["coco"]
    assert scores["mAP50"] == pytest.approx(100 * 51 / 101, abs=1e-4)


def test_a_class_is_localised_where_its_best_detection_is_on_an_object_of_it(judge):
    cat, dog = square(0, 0, 8), square(10, 20, 8)
    ring = cat & ~square(1, 1, 6)  # the box is the cat's, the mask is not
    images = [
        # Right, though a worse detection is wrong and a better one of another class is, too.
        (true_image("a", [(0, cat)]), found((1, 0.9, dog), (0, 0.8, ring), (0, 0.7, dog))),
        # Wrong: the best detection of the class is elsewhere, however good the second.
        (true_image("b", [(0, cat)]), found((0, 0.9, dog), (0, 0.8, cat))),
        # Nothing is found, and nothing of the class.
        (true_image("c", [(0, cat)]), found()),
        (true_image("d", [(0, cat)]), found((1, 0.9, cat))),
        # On either of two. Boxes of 8 by 8 that are 8 by 4 apart overlap by a third.
        (true_image("e", [(0, cat), (0, dog), (1, dog)]), found((0, 0.9, dog))),
        (true_image("f", [(1, dog)]), found((1, 0.9, square(10, 16, 8)))),
        # SplitResults of the box is enough.
        (true_image("g", [(1, square(0, 0, 8) & ~square(0, 4, 8))]), found((1, 0.9, cat))),
    ]
    scores = judge([image for image, _ in images], {image.id: of for image, of in images})["coco"]
    cats, dogs = 100 * 2 / 5, 100 * 1 / 3
    assert scores["per_class"]["cat"]["CorLoc"] == pytest.approx(cats, abs=1e-4)
    assert scores["per_class"]["dog"]["CorLoc"] == pytest.approx(dogs, abs=1e-4)
    assert scores["per_class"]["emu"]["CorLoc"] is None
    assert scores["CorLoc"] == pytest.approx((cats + dogs) / 2, abs=1e-4)


def test_counts_are_off_by_what_is_found_too_much_or_too_little(judge):
    cat, dog = square(0, 0, 4), square(10, 20, 4)
    truth = [
        true_image("a", [(0, cat), (0, square(0, 8, 4)), (1, dog)]),
        true_image("b", [(0, cat)]),
        true_image("c", []),
    ]
    detections = {
        "a": found((0, 0.9, dog), (0, 0.49, cat)),  # a cat and a dog too few
        "b": found((0, 0.9, cat), (0, 0.8, cat), (1, 0.7, dog)),  # one of each too many
        "c": found((1, 0.9, dog)),  # not judged
    }
    scores = judge(truth, detections)
    of_classes = {name: of["count_error"] for name, of in scores["wise"]["per_class"].items()}
    assert of_classes == {"cat": 1, "dog": 1, "emu": 0}
    assert scores["wise"]["count_error"] == 2
    # A cat missed and a dog too many are as many animals as there are.
    detections["a"] = found((0, 0.9, cat), (1, 0.9, dog), (1, 0.8, dog))
    assert judge(truth[:1], detections)["wise"]["count_error"] == 0


def test_without_a_cut_of_scores_nothing_is_counted(judge):
    image = true_image("a", [(0, square(0, 0, 4))])
    detections = {"a": found((0, 0.9, square(0, 0, 4)))}
    for scores in (
        judge([image], detections)["coco"],
        judge([image], detections, min_score=0)["wise"],
    ):
        assert scores["count_error"] is None
        assert {of["count_error"] for of in scores["per_class"].values()} == {None}


def test_protocol_wise_cuts_scores_and_coco_does_not(judge):
    cat = square(0, 0, 4)
    scores = judge([true_image("a", [(0, cat)])], {"a": found((0, 0.49, cat))})
    assert (scores["coco"]["mAP50"], scores["coco"]["ABO"]) == (100, 100)
    assert (scores["wise"]["mAP50"], scores["wise"]["ABO"]) == (0, 0)
    scores = judge([true_image("a", [(0, cat)])], {"a": found((0, 0.5, cat))})
    assert scores["wise"]["mAP50"] == 100
    scores = judge([true_image("a", [(0, cat)])], {"a": found((0, 0.49, cat))}, min_score=0.4)
    assert scores["wise"]["mAP50"] == 100


def test_protocol_wise_leaves_void_out(judge):
    cat, void = square(0, 0, 4), square(0, 4, 12)
    image = true_image("a", [(0, cat)], void)
    # The first detection is of void alone, the second spills into it.
    detections = found((0, 0.9, square(2, 6, 4)), (0, 0.8, cat | square(0, 4, 6)))
    scores = judge([image], {"a": detections})
    assert scores["coco"]["ABO"] == pytest.approx(100 * 16 / 52, abs=1e-4)
    assert scores["coco"]["mAP75"] == 0
    assert (scores["wise"]["ABO"], scores["wise"]["mAP75"]) == (100, 100)


def test_protocol_wise_leaves_images_without_objects_out(judge):
    cat = square(0, 0, 4)
    images = [true_image("a", [(0, cat)]), true_image("b", [])]
    detections = {"a": found((0, 0.8, cat)), "b": found((0, 0.9, cat))}
    scores = judge(images, detections)
    assert (scores["coco"]["images"], scores["coco"]["mAP50"]) == (2, 50)
    assert (scores["wise"]["images"], scores["wise"]["mAP50"]) == (1, 100)


def test_protocol_wise_judges_images_with_objects_of_other_classes(judge):
    cat = square(0, 0, 4)
    images = [true_image("a", [(0, cat)]), true_image("b", [], other_objects=1)]
    scores = judge(images, {"a": found((0, 0.8, cat)), "b": found((0, 0.9, cat))})
    assert (scores["wise"]["images"], scores["wise"]["mAP50"]) == (2, 50)


def test_detections_beyond_the_limit_of_their_class_are_not_judged(judge):
    cat, dog, wrong = square(0, 0, 4), square(10, 10, 4), square(10, 20, 4)
    image = true_image("a", [(0, cat), (1, dog)])
    detections = {"a": found((1, 0.9, dog), (0, 0.8, wrong), (0, 0.7, cat))}
    for scores in judge([image], detections, max_detections=1).values():
        assert scores["per_class"]["cat"]["ABO"] == scores["per_class"]["cat"]["AP50"] == 0
        # The cats' limit costs the dogs nothing.
        assert scores["per_class"]["dog"]["ABO"] == scores["per_class"]["dog"]["AP50"] == 100


def test_no_detection_is_zero_and_no_truth_is_unknown(judge):
    scores = judge([true_image("a", [(0, square(0, 0, 4))])], {"a": found()})["coco"]
    assert (scores["mAP25"], scores["ABO"]) == (0, 0)
    assert scores["CorLoc"] == 0
    assert scores["per_class"]["dog"]["AP25"] is None


def test_without_truth_all_is_unknown(judge):
    for scores in judge([], {"a": found((0, 0.9, square(0, 0, 4)))}).values():
        assert (scores["images"], scores["instances"]) == (0, 0)
        numbers = {
            name: scores[name] for name in set(scores) - {"images", "instances", "per_class"}
        }
        assert len(numbers) == 13
        assert set(numbers.values()) == {None}


def test_an_image_that_predictions_lack_is_named(judge):
    with pytest.raises(InputError, match="holds no image b"):
        judge([true_image("b", [])], {"a": found()})


def test_other_classes_are_refused(tmp_path):
    with InstanceWriter(tmp_path / "store", "predictions", ("cat",), {}) as writer:
        writer.add("a", HEIGHT, WIDTH, found())
    with pytest.raises(InputError, match="different classes"):
        scores_of(Method(Truth(classes=CLASSES, images=()), InstanceStore(tmp_path / "store")))


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.25], [0.5, 0.5], [0.0], [1.0], [0.501]])
def test_impossible_thresholds_are_refused(thresholds):
    with pytest.raises(InputError, match=r"evaluation\.iou_thresholds"):
        EvaluationParameters.parse({**VALUES, "iou_thresholds": thresholds}, "evaluation")


SHAPES = [square(0, 0, 6), square(8, 8, 5), square(8, 20, 4)]


def write_pseudo_masks(proposals, draws):
    """One image: dogs' peaks drew proposals 2, 1 and 2, a cat's 1; the second epoch another."""
    with ProposalWriter(proposals, "boxes", "nobody's masks", {}) as writer:
        writer.add(
            "a",
            HEIGHT,
            WIDTH,
            Proposals(masks.encode(np.stack(SHAPES)), np.array([0.3, 0.2, 0.1], np.float32)),
        )
    with DrawWriter(draws, CLASSES, {}) as writer:
        candidates = [np.arange(3)] * 4
        draw = np.array([[2, 0], [1, 0], [2, 0], [1, 0]], np.int32)
        label = np.array([1, 1, 1, 0], np.int16)
        writer.add(
            "a",
            HEIGHT,
            WIDTH,
            Draws(label, candidates, [np.full(3, 1 / 3)] * 4, draw, np.ones(4, bool)),
        )


def test_pseudo_masks_are_the_first_draws_each_once(tmp_path):
    write_pseudo_masks(tmp_path / "proposals", tmp_path / "draws")
    pseudo = FirstDraws(DrawStore(tmp_path / "draws"), ProposalStore(tmp_path / "proposals"))
    instances = pseudo.instances("a")
    assert list(instances.label) == [0, 1, 1]
    assert list(instances.score) == pytest.approx([0.2, 0.2, 0.1])
    assert (masks.decode(instances.masks, HEIGHT, WIDTH) == [SHAPES[1], SHAPES[1], SHAPES[2]]).all()


def test_pseudo_masks_are_not_cut_by_score(tmp_path):
    write_pseudo_masks(tmp_path / "proposals", tmp_path / "draws")
    pseudo = FirstDraws(DrawStore(tmp_path / "draws"), ProposalStore(tmp_path / "proposals"))
    truth = Truth(classes=CLASSES, images=(true_image("a", [(0, SHAPES[1])]),))
    scores = scores_of(Method(truth, pseudo, confidences=False))
    assert (scores["wise"]["mAP50"], scores["wise"]["ABO"]) == (100, 100)
    # A cat and two dogs were drawn, with confidence or without.
    assert scores["coco"]["count_error"] == scores["wise"]["count_error"] == 2
    scores = scores_of(Method(truth, pseudo))
    assert scores["wise"]["mAP50"] == 0


def test_a_true_instance_is_matched_once():
    detections = found(
        *[(0, 0.4, square(0, 0, 8)), (0, 0.3, square(0, 0, 7))],
        *[(1, 0.2, square(10, 10, 8)), (1, 0.1, square(0, 20, 4))],
    )
    objects = [(0, square(0, 0, 8)), (0, square(10, 10, 8)), (1, square(10, 11, 8))]
    true = true_image("a", objects).as_instances()
    assert matched(true, detections).tolist() == [True, False, True, False]
    assert matched(true_image("b", []).as_instances(), detections).tolist() == [False] * 4


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """All that the stage reads; its truth is that of `val` alone."""
    monkeypatch.chdir(tmp_path)
    values = {"evaluation": VALUES, "mask_rcnn": {"pseudo_masks": "sampler"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    entry = {"params": ["evaluation"], "deps": ["params.yaml"]}
    stages = {"evaluation": entry, "mask_rcnn": {}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    data = tmp_path / "data"
    truth = Truth(classes=CLASSES, images=(true_image("a", [(0, SHAPES[0])]),))
    truth.write(data / "dataset/truth/val.json")
    truth.model_copy(update={"images": ()}).write(data / "dataset/truth/train.json")
    write_pseudo_masks(data / "proposals/train", data / "sampler/train")
    shutil.copytree(data / "proposals/train", data / "proposals/val")
    y, x = np.array([9, 9, 1, 9], np.int32), np.array([21, 9, 1, 21], np.int32)
    peaks = Peaks(np.array([1, 1, 1, 0], np.int16), y, x, np.ones(4), np.ones((4, 2, 2)) / 4)
    with PeakWriter(data / "peaks/train", CLASSES, {}) as writer:
        writer.add("a", HEIGHT, WIDTH, peaks)
    for name in ("predictions", "refinement"):
        Calibration.off(CLASSES).write(data / "calibration" / f"{name}.json")
    stages = ("retrieval", "predictions", "refinement", "mask_rcnn_gt", "community_predictions")
    for name in stages:
        for split in ("train", "val"):
            with InstanceWriter(data / name / split, name, CLASSES, {"enabled": False}) as writer:
                writer.add("a", HEIGHT, WIDTH, found((0, 0.75, SHAPES[0])))
    return data


def test_stage_writes_every_method_once_and_for_all(shelf, capsys):
    stage.main()
    place = shelf / "evaluation"
    files = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    metrics = json.loads(files[place / "metrics.json"])
    of_val = ["prm", "wise", "wise+refine"]
    methods = ["pseudo_masks", *of_val, *(f"{name}/train" for name in of_val)]
    assert list(metrics) == [*methods, "differences", "proposals", "peaks"]
    assert metrics["wise"]["wise"]["mAP50_interval"] == [100, 100]
    pairs = [("wise", "prm"), ("wise+refine", "wise")]
    names = [f"{a}{s} - {b}{s}" for s in ("", "/train") for a, b in pairs]
    assert list(metrics["differences"]) == names
    compared = metrics["differences"]["wise - prm"]["coco"]
    assert (compared["mAP50"], compared["mAP50_interval"]) == (0, [0, 0])
    assert metrics["wise"]["wise"]["mAP50"] == 100
    assert metrics["pseudo_masks"]["coco"]["images"] == 0
    assert metrics["pseudo_masks"]["coco"]["mAP50"] is None
    assert "no image of train has true masks" in capsys.readouterr().out

    names = sorted(path.name for path in (place / "instances").iterdir())
    assert names == sorted(f"{name.replace('/', '-')}.json.gz" for name in methods)
    (result,) = json.loads(gzip.decompress(files[place / "instances/wise-train.json.gz"]))
    segmentation = result.pop("segmentation")
    assert result == {"image_id": "a", "category_id": 1, "category": "cat", "score": 0.75}
    (code,) = masks.encode(SHAPES[0][None])
    assert segmentation == {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}

    rows = files[place / "per_class.csv"].decode().splitlines()
    of_boxes = "box_AP25,box_AP50,box_AP75,CorLoc"
    assert rows[0] == f"method,protocol,class,AP25,AP50,AP75,ABO,ECE,{of_boxes},count_error"
    # The only detection is right, with a score of 0.75.
    assert f"wise,wise,cat{4 * ',100.0'},25.0{4 * ',100.0'},0.0" in rows
    assert f"wise,coco,cat{4 * ',100.0'},25.0{4 * ',100.0'}," in rows
    assert f"wise,wise,dog{9 * ','},0.0" in rows
    assert f"prm,wise,cat{4 * ',100.0'},{4 * ',100.0'},0.0" in rows
    rows = files[place / "by_class.csv"].decode().splitlines()
    assert rows == [
        f"class,{','.join(methods)}",
        "cat,,100.0,100.0,100.0,,,",
        "dog,,,,,,,",
        "emu,,,,,,,",
    ]
    table = files[place / "table.md"].decode()
    sure = " 100.0 [100.0, 100.0] |"
    assert f"| wise | coco | 1 | 1 |{3 * sure} 100.0 | 25.0 |" in table
    assert f"| wise - prm | coco |{3 * ' 0.0 [0.0, 0.0] |'}" in table
    assert "| wise | coco | 100.0 | 100.0 | 100.0 | 100.0 | - |" in table
    assert "| wise | wise | 100.0 | 100.0 | 100.0 | 100.0 | 0.00 |" in table
    assert table.count("Proposals: boxes. Their supervision: nobody's masks\n") == 5
    assert "| val | 1 | 1 | 100.0 | 100.0 | 100.0 |" in table
    assert metrics["proposals"]["val"]["by_size"]["small"]["AR@10"] == 100
    assert metrics["peaks"]["train"] | {"per_class": None} == dict.fromkeys(
        metrics["peaks"]["train"]
    ) | dict.fromkeys(("images", "instances", "peaks", "pseudo_masks"), 0)

    off = ["community", "community/train", "mask_rcnn_gt", "mask_rcnn_gt/train"]
    lines = files[place / "by_count.csv"].decode().splitlines()
    assert lines[0] == f"objects,{','.join([*methods, *off])}"
    # Columns: pseudo masks; three methods on val, then on train; the two that are off on both.
    one = f"nan,100.00,100.00,100.00{7 * ',nan'}"
    assert lines[1:3] == [f"1,{one}", f"2{11 * ',nan'}"]
    # 6 x 6 of 20 x 30 pixels: a quarter of the side
    assert files[place / "by_area.csv"].decode().splitlines()[3] == f"25.0,{one}"

    stage.main()
    assert files == {path: path.read_bytes() for path in files}
    for path in (place / "instances").iterdir():
        # RFC 1952: no file name or other flag, and no time.
        assert files[path][3:8] == bytes(5)


def test_no_instance_is_an_empty_list(tmp_path):
    with InstanceWriter(tmp_path / "store", "predictions", CLASSES, {}) as writer:
        writer.add("a", HEIGHT, WIDTH, found())
    store = InstanceStore(tmp_path / "store")
    images = ((image_id, store.instances(image_id)) for image_id in store)
    write_results(tmp_path / "none.json.gz", images, CLASSES)
    assert json.loads(gzip.decompress((tmp_path / "none.json.gz").read_bytes())) == []


def test_rows_of_community_learning(shelf):
    """Its own, and those of the detector that is trained on its instances."""
    for split in ("train", "val"):
        place = shelf / "community_predictions" / split
        shutil.rmtree(place)
        with InstanceWriter(place, "community_predictions", CLASSES, {"enabled": True}) as writer:
            writer.add("a", HEIGHT, WIDTH, found((0, 0.75, SHAPES[0])))
    values = {"evaluation": VALUES, "mask_rcnn": {"pseudo_masks": "community"}}
    (shelf.parent / "params.yaml").write_text(yaml.safe_dump(values))
    stage.main()
    metrics = json.loads((shelf / "evaluation/metrics.json").read_text())
    of_val = ["prm", "community", "community+mask_rcnn", "community+mask_rcnn+refine"]
    methods = ["pseudo_masks", *of_val, *(f"{name}/train" for name in of_val)]
    assert list(metrics) == [*methods, "differences", "proposals", "peaks"]
    assert metrics["community"]["coco"]["box_mAP50"] == 100
    assert metrics["community"]["coco"]["CorLoc"] == 100
    assert "community+mask_rcnn - community" in metrics["differences"]
    assert "wise+refine" in (shelf / "evaluation/by_class.csv").read_text()


REFINEMENT = {
    "min_objectness": 0.0,
    "min_iou": 0.8,
    "vote": False,
    "max_overlap": 0.6,
    "support_weight": 0.0,
}


def test_the_upper_bound_keeps_its_masks_and_gets_the_support_of_proposals(shelf):
    """A proposal of objectness 0.3, SHAPES[0], holds the mask and is four times as large."""
    for name, parameters in (
        ("refinement", REFINEMENT | {"min_iou": 0.0, "support_weight": 1.0}),
        ("mask_rcnn_gt", {"enabled": True}),
    ):
        shutil.rmtree(shelf / name / "val")
        with InstanceWriter(shelf / name / "val", name, CLASSES, parameters) as writer:
            writer.add("a", HEIGHT, WIDTH, found((0, 0.9, square(0, 0, 3))))
    bound = stage.detections(Shelf(), "val")["mask_rcnn_gt"].instances("a")
    assert bound.masks == masks.encode(square(0, 0, 3)[None])
    assert bound.score.tolist() == pytest.approx([0.9 * 0.3 / 4])


def test_the_upper_bound_is_calibrated_and_suppressed_as_what_it_bounds(shelf):
    """One cat is expected of each detector. Of the upper bound one was found, and a part of it."""
    extent = {"height": HEIGHT, "width": WIDTH}
    photograph = Photograph(id="a", file="", sha256="", tags=("cat",), **extent)
    split = Split(root="", classes=CLASSES, photographs=(photograph,))
    split.write(shelf / "dataset/train.json")
    calibration = {"max_overlap": 0.6, "expected": (1, 0, 0), "powers": (2.0, 1.0, 1.0)}
    for name in ("predictions", "refinement"):
        fitted = Calibration(classes=CLASSES, **calibration)
        fitted.write(shelf / "calibration" / f"{name}.json")
    both = found((0, 0.9, SHAPES[0]), (0, 0.8, square(1, 1, 4)))
    for name, parameters, of_image in (
        ("refinement", REFINEMENT, found((0, 0.75, SHAPES[0]))),
        ("mask_rcnn_gt", {"enabled": True}, both),
    ):
        for part in ("train", "val"):
            shutil.rmtree(shelf / name / part)
            with InstanceWriter(shelf / name / part, name, CLASSES, parameters) as writer:
                writer.add("a", HEIGHT, WIDTH, of_image)
    opened = Shelf()
    methods = stage.open_methods(
        opened, {name: opened.truth[name].open() for name in ("train", "val")}
    )
    scores = {
        name: methods[name].predictions.instances("a").score.tolist()
        for name in methods
        if name.startswith(("wise", "mask_rcnn_gt"))
    }
    # Half of its score is between it and the next, which there is not.
    of_bound = [0.9 ** (math.log(0.5) / math.log(0.45))]
    calibrated = {"wise": [0.75**2], "wise+refine": [0.75**2], "mask_rcnn_gt": of_bound}
    expected = {
        **calibrated,
        **{f"{name}/train": of for name, of in calibrated.items()},
        "wise/uncalibrated": [0.75],
        "wise+refine/uncalibrated": [0.75],
        "mask_rcnn_gt/uncalibrated": [0.9],
    }
    assert scores == {name: pytest.approx(of) for name, of in expected.items()}
