"""Instances of any method against true masks: how right, where, and how many.

Two protocols. `coco` is that of the COCO benchmark: 101-point interpolated average precision,
a limited number of detections an image, and no cut of scores. `wise` is that of the code
released with WISE (Laradji et al., BMVC 2019, section 4): detections below a score are dropped,
void pixels are taken out of predictions and truth, images without objects are left out.

Masks are judged by average precision (AP) and average best overlap (ABO), as in WISE, tables 1
to 3; boxes by AP, and by correct localisation (CorLoc; Deselaers et al., IJCV 2012); numbers of
instances by their mean absolute error (WISE 4.3.1). Boxes, true ones too, are those around masks.
"""

import contextlib
import gzip
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pydantic import Field, PositiveInt, field_validator

from pipeline import masks
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import Instances
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.truth import TrueImage, Truth
from pipeline.errors import InputError
from pipeline.masks import Rle
from pipeline.parameters import Parameters

Threshold = Annotated[float, Gt(0), Lt(1)]

LOCALISED = 0.5  # Jaccard similarity of boxes from which an object is localised
# How the names of numbers begin that are of boxes and counts; the others are of masks.
OF_BOXES_AND_COUNTS = ("box_", "CorLoc", "count_error")


class EvaluationParameters(Parameters):
    """What the protocols have in numbers."""

    iou_thresholds: tuple[Threshold, ...] = Field(
        min_length=1, description="Jaccard similarities from which a detection counts as right"
    )
    max_detections: PositiveInt = Field(description="the best so many of an image are judged")
    min_score: float = Field(ge=0, le=1, description="lowest score in the protocol wise")

    @field_validator("iou_thresholds")
    @classmethod
    def _ascending(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if list(thresholds) != sorted({round(t, 2) for t in thresholds}):
            raise ValueError("different hundredths in ascending order are needed")
        return thresholds

    @property
    def names(self) -> list[str]:
        """What average precision is called at each threshold."""
        return [f"AP{100 * threshold:.0f}" for threshold in self.iou_thresholds]

    @property
    def middle(self) -> str:
        """What it is called at the middle one: the number that one looks at first."""
        return self.names[len(self.names) // 2]


@dataclass(frozen=True)
class Rules:
    """What a protocol lets in."""

    max_detections: int
    min_score: float
    remove_void: bool
    skip_images_without_objects: bool


def protocols(parameters: EvaluationParameters) -> dict[str, Rules]:
    """The protocols of this module, by name."""
    limit = parameters.max_detections
    return {
        "coco": Rules(limit, 0.0, remove_void=False, skip_images_without_objects=False),
        "wise": Rules(
            limit, parameters.min_score, remove_void=True, skip_images_without_objects=True
        ),
    }


class Predictions(Protocol):
    """Instances by image, whichever method they come by: an `InstanceStore`, for one."""

    @property
    def attributes(self) -> dict[str, Any]:
        """What is known of all of them; `classes` are the names that labels stand for."""
        ...

    def __iter__(self) -> Iterator[str]: ...

    def instances(self, image_id: str) -> Instances:
        """The instances of an image."""
        ...


class PseudoMasks:
    """What was drawn for the first visit to each image, a mask a pair of class and proposal.

    The score is the proposal's objectness: it ranks masks, but is no confidence in a class.
    """

    def __init__(self, draws: DrawStore, proposals: ProposalStore) -> None:
        self._draws, self._proposals = draws, proposals

    @property
    def attributes(self) -> dict[str, Any]:
        """Those of the draws."""
        return self._draws.attributes

    def __iter__(self) -> Iterator[str]:
        return iter(self._draws)

    def instances(self, image_id: str) -> Instances:
        """The pseudo masks of an image."""
        drawn = self._draws.draws(image_id)
        return drawn.instances(self._proposals.proposals(image_id), visit=0)


@dataclass(frozen=True)
class Method:
    """The predictions of a method and the truth that they are held against.

    Where scores are no `confidences`, protocols do not cut by them.
    """

    truth: Truth
    predictions: Predictions
    confidences: bool = True


@dataclass(frozen=True)
class Pair:
    """True and found instances of an image, as far as a protocol lets them in, best first."""

    height: int
    width: int
    true: Instances
    found: Instances


@dataclass(frozen=True)
class Pairs:
    """All that a protocol judges of a method; `decided`: what it lets in is taken for found.

    Detections that are ranked by confidence, and not cut by it, say nothing about how many
    objects there are.
    """

    pairs: Sequence[Pair]
    classes: Sequence[str]
    decided: bool


def pairs_of(method: Method, parameters: EvaluationParameters) -> dict[str, Pairs]:
    """Pair truth and predictions as every protocol does, on the images that have true masks.

    Raises
    ------
    InputError
        If the predictions are of other classes, or lack an image that has true masks.
    """
    classes = method.truth.classes
    if tuple(method.predictions.attributes["classes"]) != classes:
        raise InputError("truth and predictions are of different classes; run all stages again")
    rules_of = protocols(parameters)
    if not method.confidences:
        rules_of = {name: replace(rules, min_score=0.0) for name, rules in rules_of.items()}
    pairs: dict[str, list[Pair]] = {name: [] for name in rules_of}
    for image in method.truth.images:
        found = method.predictions.instances(image.id)
        for name, rules in rules_of.items():
            if image.instances or not rules.skip_images_without_objects:
                pairs[name].append(admit(rules, image, found))
    return {
        name: Pairs(pairs[name], classes, decided=rules.min_score > 0 or not method.confidences)
        for name, rules in rules_of.items()
    }


def evaluate(pairs: Mapping[str, Pairs], parameters: EvaluationParameters) -> dict[str, Any]:
    """Judge a method, paired with the truth by `pairs_of`, by every protocol.

    Returns
    -------
    Protocol -> `images` and `instances` that it was judged on; in percent `mAPxx` of masks for
    every threshold, `ABO`, `box_mAPxx` of boxes, `CorLoc`; `count_error`, in instances an image;
    `per_class` the same class by class. What nothing is known of, for want of true instances or
    of a cut of scores, is None, and left out of the means over classes.
    """
    return {name: _summary(of_protocol, parameters) for name, of_protocol in pairs.items()}


def admit(rules: Rules, image: TrueImage, found: Instances) -> Pair:
    """Apply the rules of a protocol to an image and what was found in it."""
    best = np.argsort(-found.score, kind="stable")[: rules.max_detections]
    found = found.take(best[found.score[best] >= rules.min_score])
    true = Instances(image.masks(), image.labels(), np.ones(len(image.instances), np.float32))
    if rules.remove_void:
        void = masks.decode([image.void_mask()], image.height, image.width)
        true, found = _within(masks.encode(~void), true), _within(masks.encode(~void), found)
    return Pair(image.height, image.width, true, found)


def _within(area: list[Rle], instances: Instances) -> Instances:
    """Cut instances to an area (one mask); what is wholly outside is gone."""
    cut = [coco_mask.merge([mask, *area], intersect=True) for mask in instances.masks]
    return replace(instances, masks=cut).take(np.flatnonzero(masks.area(cut)))


def average_precision(
    pairs: Sequence[Pair], classes: int, thresholds: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """101-point interpolated average precision of masks and of boxes, 0 to 1, by pycocotools.

    Returns
    -------
    Two of float64, shape (thresholds, classes), NaN for a class without true instances.
    """
    # The protocol has limited the detections of an image already, those of all classes.
    limit = max((len(pair.found.masks) for pair in pairs), default=0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports to it
        true = _as_coco(pairs, [pair.true for pair in pairs], classes)
        found = _as_coco(pairs, [pair.found for pair in pairs], classes)
        return (
            _average_precision(COCOeval(true, found, "segm"), thresholds, limit),
            _average_precision(COCOeval(true, found, "bbox"), thresholds, limit),
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


def _as_coco(pairs: Sequence[Pair], instances: Sequence[Instances], classes: int) -> COCO:
    """Instances as the COCO tools hold what they have read from a file."""
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
                "id": number,  # from 1: to COCOeval, 0 is 'no match'
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
    """Mean over true instances of their best Jaccard similarity with a found one of the class.

    Returns
    -------
    float64 of shape (classes,), 0 to 1, NaN for a class without true instances.
    """
    best = np.concatenate([np.zeros(0), *(best_overlaps(pair) for pair in pairs)])
    labels = np.concatenate([np.zeros(0, np.int16), *(pair.true.label for pair in pairs)])
    return np.array([_mean(best[labels == label]) for label in range(classes)])


def best_overlaps(pair: Pair) -> NDArray[np.float64]:
    """Jaccard similarity of every true instance with the best found one of its class, (n,)."""
    overlaps = masks.jaccard(pair.true.masks, pair.found.masks)
    same_class = pair.true.label[:, None] == pair.found.label
    return np.asarray((overlaps * same_class).max(axis=1, initial=0.0), np.float64)


def correct_localisation(pairs: Sequence[Pair], classes: int) -> NDArray[np.float64]:
    """Share of a class's images whose highest-scored detection of it is on an instance of it.

    On it is a box that overlaps the instance's by `LOCALISED` or more; an image in which nothing
    of the class is detected is a miss.

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
    return np.array([_mean(of_class) for of_class in localised])


def _box_overlaps(first: Instances, second: Instances) -> NDArray[np.float64]:
    """Jaccard similarities of boxes, (len(first), len(second))."""
    if not first.masks or not second.masks:
        return np.zeros((len(first.masks), len(second.masks)))
    boxes = masks.boxes(first.masks), masks.boxes(second.masks)
    return np.asarray(coco_mask.iou(*boxes, [False] * len(second.masks)), np.float64)


def count_errors(pairs: Sequence[Pair], classes: int) -> tuple[NDArray[np.float64], float]:
    """Mean over images of how many instances are found too many or too few.

    Returns
    -------
    float64 of shape (classes,): class by class, in images with and without the class; and the
    same of the instances of all classes together. NaN if there are no images.
    """

    def counts(instances: Sequence[Instances]) -> NDArray[np.int64]:
        of_images = [np.bincount(of_image.label, minlength=classes) for of_image in instances]
        return np.array(of_images, np.int64).reshape(-1, classes)

    surplus = counts([pair.found for pair in pairs]) - counts([pair.true for pair in pairs])
    by_class = np.array([_mean(of_class) for of_class in np.abs(surplus).T])
    return by_class, _mean(np.abs(surplus.sum(axis=1)))


def _summary(of_protocol: Pairs, parameters: EvaluationParameters) -> dict[str, Any]:
    pairs, count = of_protocol.pairs, len(of_protocol.classes)
    of_masks, of_boxes = average_precision(pairs, count, parameters.iou_thresholds)
    columns = {
        **dict(zip(parameters.names, of_masks, strict=True)),
        "ABO": average_best_overlap(pairs, count),
        **{f"box_{name}": of for name, of in zip(parameters.names, of_boxes, strict=True)},
        "CorLoc": correct_localisation(pairs, count),
    }
    errors, error = count_errors(pairs, count)
    if not of_protocol.decided:
        errors, error = np.full(count, math.nan), math.nan
    return {
        "images": len(pairs),
        "instances": sum(len(pair.true.masks) for pair in pairs),
        **{_mean_name(name): _percent(_mean(column)) for name, column in columns.items()},
        "count_error": _rounded(error),
        "per_class": {
            class_name: {name: _percent(column[label]) for name, column in columns.items()}
            | {"count_error": _rounded(errors[label])}
            for label, class_name in enumerate(of_protocol.classes)
        },
    }


def _mean_name(column: str) -> str:
    """The field speaks of mAP, but of ABO for one class and for all."""
    return column.replace("AP", "mAP")


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """The mean of what is known (no NaN), or NaN."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _percent(share: float) -> float | None:
    return _rounded(100 * share)


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def write_results(path: Path, method: Method) -> None:
    """Write all instances of a method in COCO's result format, gzipped JSON, whole or not at all.

    Beyond that format, `image_id` is the name of the photograph and `category` that of the
    class, whose `category_id` counts from 1.
    """
    classes = method.truth.classes
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    # Neither time nor name goes into the file, whose bytes are those of its content.
    with unfinished.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
        separator = "["
        for image_id in method.predictions:
            for result in _results(image_id, method.predictions.instances(image_id), classes):
                lines.write(f"{separator}\n{json.dumps(result)}".encode())
                separator = ","
        lines.write(b"\n]\n" if separator == "," else b"[]\n")
    unfinished.replace(path)


def _results(image_id: str, instances: Instances, classes: Sequence[str]) -> Iterator[Any]:
    for mask, label, score in zip(instances.masks, instances.label, instances.score, strict=True):
        yield {
            "image_id": image_id,
            "category_id": int(label) + 1,
            "category": classes[label],
            "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
            "score": float(score),
        }


def summaries(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, protocol and numbers of all that were judged."""
    for method, by_protocol in metrics.items():
        for protocol, summary in by_protocol.items():
            yield method, protocol, summary
