import gzip
import json
import shutil

import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline import evaluation, masks
from pipeline.artifacts.draws import Draws, DrawStore, DrawWriter
from pipeline.artifacts.instances import Instances, InstanceStore, InstanceWriter
from pipeline.artifacts.peaks import Peaks, PeakWriter
from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.artifacts.truth import TrueImage, TrueInstance, Truth
from pipeline.errors import InputError
from pipeline.evaluation import EvaluationParameters, Method, PseudoMasks
from stages import evaluation as stage

CLASSES = ("cat", "dog", "emu")
HEIGHT, WIDTH = 20, 30
VALUES = {"iou_thresholds": [0.25, 0.5, 0.75], "max_detections": 100, "min_score": 0.5}
PARAMETERS = EvaluationParameters.parse(VALUES, "evaluation")
NOTHING = np.zeros((HEIGHT, WIDTH), bool)


def square(top, left, side):
    mask = NOTHING.copy()
    mask[top : top + side, left : left + side] = True
    return mask


def true_image(image_id, objects, void=NOTHING):
    """`objects` are pairs of label and mask."""
    counts = [
        rle["counts"].decode() for rle in masks.encode(np.stack([m for _, m in objects] + [void]))
    ]
    instances = [
        TrueInstance(label=k, counts=c) for (k, _), c in zip(objects, counts, strict=False)
    ]
    return TrueImage(
        id=image_id, height=HEIGHT, width=WIDTH, instances=tuple(instances), void=counts[-1]
    )


def found(*detections):
    """`detections` are triples of label, score and mask."""
    ordered = sorted(detections, key=lambda detection: -detection[1])
    return Instances(
        masks.encode(np.array([mask for *_, mask in ordered]).reshape(-1, HEIGHT, WIDTH)),
        np.array([label for label, *_ in ordered], np.int16),
        np.array([score for _, score, _ in ordered], np.float32),
    )


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
        parameters = EvaluationParameters.parse({**VALUES, **changed}, "evaluation")
        return evaluation.evaluate(method, parameters)

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


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_the_coco_tools_on_files(judge, tmp_path, seed):
    truth, detections = random_case(seed)
    annotations, results = [], []
    for number, image in enumerate(truth):
        for instance, rle in zip(image.instances, image.masks(), strict=True):
            common = {"image_id": number, "category_id": instance.label, "iscrowd": 0}
            code = {"size": rle["size"], "counts": instance.counts}
            area = int(masks.area([rle])[0])
            annotations.append(
                {"id": len(annotations) + 1, "segmentation": code, "area": area, **common}
            )
        mine = detections[image.id]
        for rle, label, score in zip(mine.masks, mine.label, mine.score, strict=True):
            code = {"size": rle["size"], "counts": rle["counts"].decode()}
            results.append(
                {
                    "image_id": number,
                    "category_id": int(label),
                    "segmentation": code,
                    "score": float(score),
                }
            )
    frames = [{"id": n, "height": HEIGHT, "width": WIDTH} for n in range(len(truth))]
    categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES)]
    content = {"images": frames, "categories": categories, "annotations": annotations}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(results))
    coco = COCO(str(tmp_path / "truth.json"))
    tool = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), "segm")
    tool.params.iouThrs = np.array([0.25, 0.5, 0.75])
    tool.evaluate()
    tool.accumulate()
    expected = 100 * tool.eval["precision"][:, :, :2, 0, -1].mean(axis=1)

    scores = judge(truth, detections)["coco"]
    for label, name in enumerate(CLASSES[:2]):
        for row, column in enumerate(("AP25", "AP50", "AP75")):
            assert scores["per_class"][name][column] == pytest.approx(
                expected[row, label], abs=1e-3
            )
    means = [scores["mAP25"], scores["mAP50"], scores["mAP75"]]
    assert means == pytest.approx(list(expected.mean(axis=1)), abs=1e-3)
    assert scores["per_class"]["emu"] == dict.fromkeys(("AP25", "AP50", "AP75", "ABO"))


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


def test_detections_beyond_the_limit_are_not_judged(judge):
    cat, dog = square(0, 0, 4), square(10, 10, 4)
    image = true_image("a", [(0, cat), (1, dog)])
    detections = {"a": found((1, 0.9, dog), (0, 0.8, cat))}
    scores = judge([image], detections, max_detections=1)["coco"]
    assert scores["per_class"]["cat"]["ABO"] == scores["per_class"]["cat"]["AP50"] == 0
    assert scores["per_class"]["dog"]["ABO"] == 100


def test_no_detection_is_zero_and_no_truth_is_unknown(judge):
    scores = judge([true_image("a", [(0, square(0, 0, 4))])], {"a": found()})["coco"]
    assert (scores["mAP25"], scores["ABO"]) == (0, 0)
    assert scores["per_class"]["dog"]["AP25"] is None


def test_without_truth_all_is_unknown(judge):
    for scores in judge([], {"a": found((0, 0.9, square(0, 0, 4)))}).values():
        assert (scores["images"], scores["instances"]) == (0, 0)
        assert [scores[name] for name in ("mAP25", "mAP50", "mAP75", "ABO")] == [None] * 4


def test_an_image_that_predictions_lack_is_named(judge):
    with pytest.raises(InputError, match="holds no image b"):
        judge([true_image("b", [])], {"a": found()})


def test_other_classes_are_refused(tmp_path):
    with InstanceWriter(tmp_path / "store", "predictions", ("cat",), {}) as writer:
        writer.add("a", HEIGHT, WIDTH, found())
    with pytest.raises(InputError, match="different classes"):
        evaluation.evaluate(
            Method(Truth(classes=CLASSES, images=()), InstanceStore(tmp_path / "store")), PARAMETERS
        )


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.25], [0.5, 0.5], [0.0], [1.0], [0.501]])
def test_impossible_thresholds_are_refused(thresholds):
    with pytest.raises(InputError, match=r"evaluation\.iou_thresholds"):
        EvaluationParameters.parse({**VALUES, "iou_thresholds": thresholds}, "evaluation")


SHAPES = [square(0, 0, 6), square(8, 8, 5), square(8, 20, 4)]


def write_pseudo_masks(proposals, draws):
    """One image: dogs' peaks drew proposals 2, 1 and 2, a cat's 1; the second visit another."""
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
        writer.add("a", HEIGHT, WIDTH, Draws(label, candidates, [np.full(3, 1 / 3)] * 4, draw))


def test_pseudo_masks_are_the_first_draws_each_once(tmp_path):
    write_pseudo_masks(tmp_path / "proposals", tmp_path / "draws")
    pseudo = PseudoMasks(DrawStore(tmp_path / "draws"), ProposalStore(tmp_path / "proposals"))
    instances = pseudo.instances("a")
    assert list(instances.label) == [0, 1, 1]
    assert list(instances.score) == pytest.approx([0.2, 0.2, 0.1])
    assert (masks.decode(instances.masks, HEIGHT, WIDTH) == [SHAPES[1], SHAPES[1], SHAPES[2]]).all()


def test_pseudo_masks_are_not_cut_by_score(tmp_path):
    write_pseudo_masks(tmp_path / "proposals", tmp_path / "draws")
    pseudo = PseudoMasks(DrawStore(tmp_path / "draws"), ProposalStore(tmp_path / "proposals"))
    truth = Truth(classes=CLASSES, images=(true_image("a", [(0, SHAPES[1])]),))
    scores = evaluation.evaluate(Method(truth, pseudo, confidences=False), PARAMETERS)
    assert (scores["wise"]["mAP50"], scores["wise"]["ABO"]) == (100, 100)
    scores = evaluation.evaluate(Method(truth, pseudo), PARAMETERS)
    assert scores["wise"]["mAP50"] == 0


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """All that the stage reads; its truth is that of `val` alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"evaluation": VALUES}))
    entry = {"params": ["evaluation"], "deps": ["params.yaml"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"evaluation": entry}}))
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
        for split in ("train", "val"):
            with InstanceWriter(data / name / split, name, CLASSES, {}) as writer:
                writer.add("a", HEIGHT, WIDTH, found((0, 0.75, SHAPES[0])))
    return data


def test_stage_writes_every_method_once_and_for_all(shelf, capsys):
    stage.main()
    place = shelf / "evaluation"
    files = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    metrics = json.loads(files[place / "metrics.json"])
    methods = ["pseudo_masks", "wise", "wise+refine", "wise/train", "wise+refine/train"]
    assert list(metrics) == [*methods, "proposals", "peaks"]
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
    assert rows[0] == "method,protocol,class,AP25,AP50,AP75,ABO"
    assert "wise,coco,cat,100.0,100.0,100.0,100.0" in rows
    assert "wise,coco,dog,,,," in rows
    table = files[place / "table.md"].decode()
    assert "| wise | coco | 1 | 1 | 100.0 | 100.0 | 100.0 | 100.0 |" in table
    assert table.count("Proposals: boxes. Their supervision: nobody's masks\n") == 3
    assert "| val | 1 | 1 | 100.0 | 100.0 | 100.0 |" in table
    assert metrics["proposals"]["val"]["by_size"]["small"]["AR@10"] == 100
    assert metrics["peaks"]["train"] | {"per_class": None} == dict.fromkeys(
        metrics["peaks"]["train"]
    ) | {"images": 0, "instances": 0, "peaks": 0}

    lines = files[place / "by_count.csv"].decode().splitlines()
    assert lines[0] == f"objects,{','.join(methods)}"
    assert lines[1:3] == ["1,,100.00,100.00,,", "2,,,,,"]
    # 6 x 6 of 20 x 30 pixels: a quarter of the side
    assert files[place / "by_area.csv"].decode().splitlines()[3] == "25.0,,100.00,100.00,,"

    stage.main()
    assert files == {path: path.read_bytes() for path in files}
    for path in (place / "instances").iterdir():
        # RFC 1952: no file name or other flag, and no time.
        assert files[path][3:8] == bytes(5)


def test_no_instance_is_an_empty_list(tmp_path):
    with InstanceWriter(tmp_path / "store", "predictions", CLASSES, {}) as writer:
        writer.add("a", HEIGHT, WIDTH, found())
    method = Method(Truth(classes=CLASSES, images=()), InstanceStore(tmp_path / "store"))
    evaluation.write_results(tmp_path / "none.json.gz", method)
    assert json.loads(gzip.decompress((tmp_path / "none.json.gz").read_bytes())) == []
