import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.artifacts.draws import Draws, DrawStore, DrawWriter
from pipeline.artifacts.peaks import Peaks, PeakStore, PeakWriter
from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.artifacts.truth import TrueImage, TrueInstance, Truth
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.evaluation import stage_quality as recall

CLASSES = ("cat", "dog", "emu")
HEIGHT, WIDTH = 150, 200


def box(top, left, height, width):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def true_image(name, objects):
    """`objects` are pairs of label and mask."""
    codes = masks.encode(np.array([m for _, m in objects]).reshape(-1, HEIGHT, WIDTH))
    instances = tuple(
        TrueInstance(label=label, counts=code["counts"].decode())
        for (label, _), code in zip(objects, codes, strict=True)
    )
    (void,) = masks.encode(box(0, 0, 0, 0)[None])
    return TrueImage(
        id=name,
        height=HEIGHT,
        width=WIDTH,
        instances=instances,
        other_objects=0,
        void=void["counts"].decode(),
    )


def proposed(shapes, scores=None):
    scores = np.linspace(1, 0.1, len(shapes)) if scores is None else scores
    return Proposals(
        masks.encode(np.array(shapes).reshape(-1, HEIGHT, WIDTH)), np.array(scores, np.float32)
    )


def stored(path, proposals):
    with ProposalWriter(path, "boxes", "nobody's masks", {}) as writer:
        for name, of_image in proposals.items():
            writer.add(name, HEIGHT, WIDTH, of_image)
    return ProposalStore(path)


def random_case(seed):
    """Boxes of all sizes, and many proposals that hit and miss them; one image is empty."""
    rng = np.random.default_rng(seed)
    truth, proposals = [], {}
    for number in range(6):
        sides = rng.choice([12, 31, 50, 90, 130], (number, 2)) + rng.integers(0, 9, (number, 2))
        corners = rng.integers(0, 40, (number, 2))
        boxes = np.concatenate([corners, sides], 1)
        shapes = [box(*b) for b in boxes]
        near = boxes[rng.integers(0, number, 130)] if number else rng.integers(5, 60, (130, 4))
        moved = np.maximum(near + rng.integers(-6, 7, near.shape), 1)
        truth.append(
            true_image(f"image {number}", [(int(rng.integers(2)), shape) for shape in shapes])
        )
        scores = np.sort(rng.random(130))[::-1]
        proposals[f"image {number}"] = proposed([box(*m) for m in moved], scores)
    return Truth(classes=CLASSES, images=tuple(truth)), proposals


def coco_recall(truth, proposals):
    """COCO's average recall by its own tools: (area, count), classes not told apart."""
    images, annotations, results = [], [], []
    for number, image in enumerate(truth.images):
        images.append({"id": number, "height": HEIGHT, "width": WIDTH})
        common = {"image_id": number, "category_id": 1, "iscrowd": 0}
        for into, rles, scores in (
            (annotations, image.masks(), np.ones(len(image.instances))),
            (results, proposals[image.id].masks, proposals[image.id].score),
        ):
            for rle, score in zip(rles, scores, strict=True):
                area = int(masks.area([rle])[0])
                row = {"id": len(into) + 1, "segmentation": rle, "area": area}
                into.append(row | common | {"score": float(score)})
    tools = []
    for rows in (annotations, results):
        tool = COCO()
        tool.dataset = {"images": images, "categories": [{"id": 1}], "annotations": rows}
        tools.append(tool)
    with contextlib.redirect_stdout(io.StringIO()):
        for tool in tools:
            tool.createIndex()
        evaluation = COCOeval(*tools, "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(recall.COUNTS)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["recall"][:, 0].mean(axis=0)


@pytest.mark.parametrize("seed", [0, 2])
def test_average_recall_is_that_of_the_coco_tools(tmp_path, seed):
    truth, proposals = random_case(seed)
    quality = recall.proposal_quality(truth, stored(tmp_path / "store", proposals))
    expected = coco_recall(truth, proposals)
    whole_and_sizes = [
        quality,
        *(quality["by_size"][size] for size in ("small", "medium", "large")),
    ]
    for means, of_tools in zip(whole_and_sizes, expected, strict=True):
        ours = [means[f"AR@{count}"] for count in recall.COUNTS]
        assert ours == pytest.approx(list(100 * of_tools), abs=1e-3)
    assert 0 < quality["AR@10"] < quality["AR@100"] < quality["AR@1000"] < 100


def test_best_overlaps_are_those_of_a_plain_loop(tmp_path):
    truth, proposals = random_case(5)
    best = {0: [], 1: []}
    for image in truth.images:
        first = masks.decode(proposals[image.id].masks[:10], HEIGHT, WIDTH)
        true = masks.decode(image.masks(), HEIGHT, WIDTH)
        for instance, mask in zip(image.instances, true, strict=True):
            overlaps = [(mask & other).sum() / (mask | other).sum() for other in first]
            best[instance.label].append(100 * max(overlaps))
    quality = recall.proposal_quality(truth, stored(tmp_path / "store", proposals))
    assert quality["overlap@10"] == pytest.approx(np.mean(best[0] + best[1]), abs=1e-3)
    by_class = [np.mean(best[0]), np.mean(best[1])]
    assert quality["class_overlap@10"] == pytest.approx(np.mean(by_class), abs=1e-3)
    assert quality["per_class"]["dog"]["overlap@10"] == pytest.approx(by_class[1], abs=1e-3)
    assert quality["per_class"]["emu"]["overlap@10"] is None


def test_one_proposal_finds_one_instance():
    # Both overlap both enough; the first takes the nearer, the second what is left.
    overlaps = np.array([[0.9, 0.8], [0.6, 0.9]])
    assert recall.recall_at_counts(overlaps).tolist() == [[0.9] * 3, [0.9] * 3]
    assert recall.recall_at_counts(overlaps[:, :1]).tolist() == [[0.9] * 3, [0.0] * 3]


def test_shares_above(tmp_path):
    image = true_image("a", [(0, box(0, 0, 40, 40)), (0, box(100, 100, 40, 40))])
    shapes = [box(0, 0, 40, 30), box(100, 100, 40, 20)]  # IoU 0.75 and 0.5
    store = stored(tmp_path / "store", {"a": proposed(shapes)})
    quality = recall.proposal_quality(Truth(classes=CLASSES, images=(image,)), store)
    assert (quality["above50"], quality["above75"]) == (100, 50)


PEAK = {"value": np.ones(4, np.float32), "response": np.ones((4, 2, 2), np.float32) / 4}


def follow(tmp_path, label):
    """A cat and a dog; peaks: on the cat, on the dog, beside both, in the dog but outside.

    Of the cat there are a whole proposal and, more object-like, its half; of the dog a half.
    """
    image = true_image("a", [(0, box(0, 0, 40, 40)), (1, box(80, 80, 40, 40))])
    shapes = [box(0, 0, 40, 20), box(0, 0, 40, 40), box(80, 80, 40, 20)]
    peaks = Peaks(
        np.array(label, np.int16), np.array([5, 90, 5, 90]), np.array([5, 85, 60, 115]), **PEAK
    )
    with PeakWriter(tmp_path / "peaks", CLASSES, {}) as writer:
        writer.add("a", HEIGHT, WIDTH, peaks)
    draws = Draws(
        np.array([0, 1], np.int16),
        [np.array([0, 1], np.int32), np.array([2], np.int32)],
        [np.full(2, 0.5, np.float32), np.ones(1, np.float32)],
        np.array([[0, 1], [2, 2]], np.int32),
        np.ones(2, bool),
    )
    with DrawWriter(tmp_path / "draws", CLASSES, {}) as writer:
        writer.add("a", HEIGHT, WIDTH, draws)
    return recall.peak_quality(
        Truth(classes=CLASSES, images=(image,)),
        PeakStore(tmp_path / "peaks"),
        stored(tmp_path / "proposals", {"a": proposed(shapes)}),
        DrawStore(tmp_path / "draws"),
    )


def test_peaks_are_followed_to_instances_and_draws(tmp_path):
    quality = follow(tmp_path, [0, 1, 0, 1])
    assert (quality["instances"], quality["peaks"]) == (2, 4)
    assert (quality["hit_instances"], quality["right_peaks"]) == (100, 75)
    assert quality["covered_peaks"] == pytest.approx(100 * 2 / 3, abs=1e-3)
    assert (quality["best"], quality["top_scoring"], quality["drawn"]) == (75, 50, 62.5)
    # In the first epoch the halves were drawn, which have an IoU of 0.5.
    assert (quality["pseudo_masks"], quality["precision"], quality["F1"]) == (2, 100, 100)
    cat = quality["per_class"]["cat"]
    assert (cat["hit_instances"], cat["right_peaks"], cat["best"], cat["drawn"]) == (
        *(100, 50),
        *(100, 75),
    )
    assert quality["per_class"]["emu"]["best"] is None


def test_a_peak_of_another_class_hits_nothing(tmp_path):
    quality = follow(tmp_path, [0, 1, 0, 0])
    assert (quality["hit_instances"], quality["right_peaks"]) == (100, 50)


def test_draws_of_other_peaks_are_refused(tmp_path):
    with pytest.raises(InputError, match="draws of a belong to other peaks"):
        follow(tmp_path, [1, 1, 0, 0])


def test_without_truth_nothing_is_known(tmp_path):
    truth = Truth(classes=CLASSES, images=())
    quality = recall.proposal_quality(truth, stored(tmp_path / "store", {}))
    assert (quality["images"], quality["instances"], quality["AR@10"]) == (0, 0, None)
    assert quality["class_overlap@10"] is None
