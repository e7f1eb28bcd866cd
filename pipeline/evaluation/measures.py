"""Metrics of instances: AP, ABO, CorLoc and count errors."""

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.artifacts.instances import Instances
from pipeline.common import masks
from pipeline.evaluation.protocols import Pair

RIGHT_IOU = 0.5  # minimum IoU of a right instance, if there are no other thresholds
LOCALISED = 0.5  # minimum IoU of boxes for an object to be localised


@dataclass(frozen=True)
class Matches:
    """The n detections of a class, highest score first, and whether they match true instances.

    image : int64 (n,), index of the image.
    right : bool (thresholds, n), whether the detection matches at an IoU threshold.
    instances : int64 (images,), number of true instances.
    """

    image: NDArray[np.int64]
    right: NDArray[np.bool_]
    instances: NDArray[np.int64]


def average_precision(
    pairs: Sequence[Pair], classes: int, thresholds: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[Matches]]:
    """Compute the 101-point interpolated average precision of masks and boxes with pycocotools.

    Returns
    -------
    Average precision of masks and of boxes: float64 (thresholds, classes), 0 to 1, NaN for a
    class without true instances. And the matches of the masks of each class.
    """
    # The protocol has already limited the detections per image and class.
    limit = max((len(pair.found.masks) for pair in pairs), default=0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints to it
        true = _as_coco(pairs, [pair.true for pair in pairs], classes)
        found = _as_coco(pairs, [pair.found for pair in pairs], classes)
        by_masks, by_boxes = COCOeval(true, found, "segm"), COCOeval(true, found, "bbox")
        return (
            _average_precision(by_masks, thresholds, limit),
            _average_precision(by_boxes, thresholds, limit),
            _matches(by_masks, classes, len(thresholds)),
        )


def _average_precision(
    evaluation: Any, thresholds: Sequence[float], limit: int
) -> NDArray[np.float64]:
    evaluation.params.iouThrs = np.array(thresholds)
    evaluation.params.areaRng = evaluation.params.areaRng[:1]  # objects of any area
    evaluation.params.maxDets = [limit]
    evaluation.evaluate()
    evaluation.accumulate()
    # (threshold, recall, class, area, limit), -1 for a class without true instances
    precision: NDArray[np.float64] = evaluation.eval["precision"][..., 0, 0]
    mean: NDArray[np.float64] = np.where(precision < 0, np.nan, precision).mean(axis=1)
    return mean


def _matches(evaluation: Any, classes: int, thresholds: int) -> list[Matches]:
    """Collect the matches of pycocotools, by class and image."""
    images = len(evaluation.params.imgIds)
    by_class = [evaluation.evalImgs[k * images : (k + 1) * images] for k in range(classes)]
    return [_matches_of_class(of_images, thresholds) for of_images in by_class]


def _matches_of_class(of_images: Sequence[Any], thresholds: int) -> Matches:
    """Concatenate the results of pycocotools per image, which may be None."""
    known = [(number, image) for number, image in enumerate(of_images) if image is not None]
    score = np.concatenate([np.zeros(0), *(image["dtScores"] for _, image in known)])
    matched = [image["dtMatches"] > 0 for _, image in known]
    numbers = [np.full(len(image["dtScores"]), number) for number, image in known]
    instances = np.zeros(len(of_images), np.int64)
    for number, image in known:
        instances[number] = len(image["gtIds"])
    best = np.argsort(-score, kind="stable")
    return Matches(
        np.concatenate([np.zeros(0, np.int64), *numbers])[best],
        np.concatenate([np.zeros((thresholds, 0), bool), *matched], axis=1)[:, best],
        instances,
    )


def _as_coco(pairs: Sequence[Pair], instances: Sequence[Instances], classes: int) -> COCO:
    """Convert instances to the in-memory form of pycocotools."""
    rows = [
        (image, int(label), rle, float(score))
        for image, of_image in enumerate(instances)
        for label, rle, score in zip(of_image.label, of_image.masks, of_image.score, strict=True)
    ]
    rles = [rle for _, _, rle, _ in rows]
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": image, "height": pair.height, "width": pair.width}
            for image, pair in enumerate(pairs)
        ],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": [
            {
                "id": number,  # from 1, because 0 means 'no match' to COCOeval
                "image_id": image,
                "category_id": label,
                "segmentation": rle,
                "bbox": box,
                "area": area,
                "iscrowd": 0,
                "score": score,
            }
            for number, ((image, label, rle, score), box, area) in enumerate(
                zip(rows, masks.boxes(rles).tolist(), masks.area(rles).tolist(), strict=True), 1
            )
        ],
    }
    coco.createIndex()
    return coco


def average_best_overlap(pairs: Sequence[Pair], classes: int) -> NDArray[np.float64]:
    """Compute the mean, over true instances, of the best IoU with a prediction of their class.

    Returns
    -------
    float64 of shape (classes,), 0 to 1, NaN for a class without true instances.
    """
    best = np.concatenate([np.zeros(0), *(best_overlaps(pair) for pair in pairs)])
    labels = np.concatenate([np.zeros(0, np.int16), *(pair.true.label for pair in pairs)])
    return np.array([mean_of_known(best[labels == label]) for label in range(classes)])


def best_overlaps(pair: Pair) -> NDArray[np.float64]:
    """Compute the highest IoU of each true instance with a prediction of its class, (n,)."""
    overlaps = masks.iou(pair.true.masks, pair.found.masks)
    same_class = pair.true.label[:, None] == pair.found.label
    return np.asarray((overlaps * same_class).max(axis=1, initial=0.0), np.float64)


def matched(true: Instances, found: Instances) -> NDArray[np.bool_]:
    """Match instances to true instances of their class as the COCO benchmark does.

    Each instance, in the given order, is matched to the unmatched true instance of highest IoU, if
    this IoU is at least `RIGHT_IOU`.

    Returns
    -------
    Whether each of the n found instances is matched, bool (n,).
    """
    overlaps = masks.iou(found.masks, true.masks) * (found.label[:, None] == true.label)
    right = np.zeros(len(found.label), bool)
    for number, ious in enumerate(overlaps):
        best = ious.argmax() if len(ious) else 0
        if len(ious) and ious[best] >= RIGHT_IOU:
            right[number] = True
            overlaps[:, best] = 0
    return right


def correct_localisation(pairs: Sequence[Pair], classes: int) -> NDArray[np.float64]:
    """Compute the fraction of images of a class whose best detection localises an instance.

    The box of the detection must have an IoU of at least `LOCALISED` with the box of an instance.
    Images without a detection of the class count as misses.

    Returns
    -------
    float64 of shape (classes,), 0 to 1, NaN for a class without true instances.
    """
    localised: list[list[bool]] = [[] for _ in range(classes)]
    for pair in pairs:
        for label in np.unique(pair.true.label):
            best = np.flatnonzero(pair.found.label == label)[:1]
            overlaps = _box_overlaps(
                pair.true.take(np.flatnonzero(pair.true.label == label)), pair.found.take(best)
            )
            localised[label].append(bool((overlaps >= LOCALISED).any()))
    return np.array([mean_of_known(of_class) for of_class in localised])


def _box_overlaps(first: Instances, second: Instances) -> NDArray[np.float64]:
    """Compute the IoU of boxes, shape (len(first), len(second))."""
    if not first.masks or not second.masks:
        return np.zeros((len(first.masks), len(second.masks)))
    boxes = masks.boxes(first.masks), masks.boxes(second.masks)
    return np.asarray(coco_mask.iou(*boxes, [False] * len(second.masks)), np.float64)


def count_errors(pairs: Sequence[Pair], classes: int) -> tuple[NDArray[np.float64], float]:
    """Compute the mean absolute error, over images, of the number of instances.

    Returns
    -------
    The error of each class, float64 (classes,), over images with and without the class; and the
    error of the number of instances of all classes. NaN without images.
    """

    def counts(instances: Sequence[Instances]) -> NDArray[np.int64]:
        per_image = [np.bincount(of_image.label, minlength=classes) for of_image in instances]
        return np.array(per_image, np.int64).reshape(-1, classes)

    surplus = counts([pair.found for pair in pairs]) - counts([pair.true for pair in pairs])
    by_class = np.array([mean_of_known(of_class) for of_class in np.abs(surplus).T])
    return by_class, mean_of_known(np.abs(surplus.sum(axis=1)))


def mean_of_known(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Compute the mean of the values that are not NaN; NaN if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
