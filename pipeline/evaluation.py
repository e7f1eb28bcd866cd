"""Instances of any method against true masks: average precision and average best overlap.

Two protocols. `coco` is that of the COCO benchmark: 101-point interpolated average precision,
a limited number of detections an image, and no cut of scores. `wise` is that of the code
released with WISE (Laradji et al., BMVC 2019, section 4): detections below a score are dropped,
void pixels are taken out of predictions and truth, images without objects are left out.
"""

import contextlib
import csv
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
from pipeline.artifacts import files
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import Instances
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.truth import TrueImage, Truth
from pipeline.errors import InputError
from pipeline.masks import Rle
from pipeline.parameters import Parameters

Threshold = Annotated[float, Gt(0), Lt(1)]


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


def evaluate(method: Method, parameters: EvaluationParameters) -> dict[str, Any]:
    """Judge a method by every protocol, on the images that have true masks.

    Returns
    -------
    Protocol -> `images` and `instances` that it was judged on, `mAPxx` for every threshold,
    `ABO`, and `per_class` the same class by class, all in percent. What nothing is known of,
    for want of true instances, is None, and left out of the means over classes.

    Raises
    ------
    InputError
        If the predictions are of other classes, or lack an image that has true masks.
    """
    return {
        name: _summary(pairs_of(method, rules), method.truth.classes, parameters.iou_thresholds)
        for name, rules in protocols(parameters).items()
    }


@dataclass(frozen=True)
class Pair:
    """True and found instances of an image, as far as a protocol lets them in."""

    height: int
    width: int
    true: Instances
    found: Instances


def pairs_of(method: Method, rules: Rules) -> list[Pair]:
    """Pair the truth and the predictions of every image that a protocol judges.

    Raises
    ------
    InputError
        If the predictions are of other classes, or lack an image that has true masks.
    """
    if tuple(method.predictions.attributes["classes"]) != method.truth.classes:
        raise InputError("truth and predictions are of different classes; run all stages again")
    if not method.confidences:
        rules = replace(rules, min_score=0.0)
    return [
        admit(rules, image, method.predictions.instances(image.id))
        for image in method.truth.images
        if image.instances or not rules.skip_images_without_objects
    ]


def admit(rules: Rules, image: TrueImage, found: Instances) -> Pair:
    """Apply the rules of a protocol to an image and what was found in it."""
    best = np.argsort(-found.score, kind="stable")[: rules.max_detections]
    found = _pick(found, best[found.score[best] >= rules.min_score])
    labels = np.array([instance.label for instance in image.instances], np.int16)
    true = Instances(image.masks(), labels, np.ones(len(labels), np.float32))
    if rules.remove_void:
        void = masks.decode([image.void_mask()], image.height, image.width)
        true, found = _within(masks.encode(~void), true), _within(masks.encode(~void), found)
    return Pair(image.height, image.width, true, found)


def _within(area: list[Rle], instances: Instances) -> Instances:
    """Cut instances to an area (one mask); what is wholly outside is gone."""
    cut = [coco_mask.merge([mask, *area], intersect=True) for mask in instances.masks]
    return _pick(replace(instances, masks=cut), np.flatnonzero(masks.area(cut)))


def _pick(instances: Instances, rows: NDArray[np.int64]) -> Instances:
    picked = [instances.masks[row] for row in rows]
    return Instances(picked, instances.label[rows], instances.score[rows])


def average_precision(
    pairs: Sequence[Pair], classes: int, thresholds: Sequence[float]
) -> NDArray[np.float64]:
    """101-point interpolated average precision, 0 to 1, by pycocotools.

    Returns
    -------
    float64 of shape (thresholds, classes), NaN for a class without true instances.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports to it
        evaluation = COCOeval(
            _as_coco(pairs, [pair.true for pair in pairs], classes),
            _as_coco(pairs, [pair.found for pair in pairs], classes),
            "segm",
        )
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.areaRng = evaluation.params.areaRng[:1]  # objects of any area
        # The protocol has limited the detections of an image already, those of all classes.
        evaluation.params.maxDets = [max((len(pair.found.masks) for pair in pairs), default=0)]
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
    areas = masks.area([rle for _, _, rle, _ in rows])
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
                "area": int(area),
                "iscrowd": 0,
                "score": score,
            }
            for number, ((image, label, rle, score), area) in enumerate(
                zip(rows, areas, strict=True), 1
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


def _summary(
    pairs: Sequence[Pair], classes: Sequence[str], thresholds: Sequence[float]
) -> dict[str, Any]:
    names = [f"AP{100 * threshold:.0f}" for threshold in thresholds]
    columns = dict(
        zip(names, average_precision(pairs, len(classes), thresholds), strict=True),
        ABO=average_best_overlap(pairs, len(classes)),
    )
    return {
        "images": len(pairs),
        "instances": sum(len(pair.true.masks) for pair in pairs),
        **{_mean_name(name): _percent(_mean(column)) for name, column in columns.items()},
        "per_class": {
            class_name: {name: _percent(column[label]) for name, column in columns.items()}
            for label, class_name in enumerate(classes)
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
    return None if math.isnan(share) else round(100 * float(share), 4)


def write_results(path: Path, method: Method) -> None:
    """Write all instances of a method in COCO's result format, gzipped JSON.

    Beyond that format, `image_id` is the name of the photograph and `category` that of the
    class, whose `category_id` counts from 1.
    """
    classes = method.truth.classes
    path.parent.mkdir(parents=True, exist_ok=True)
    # Neither time nor name goes into the file, whose bytes are those of its content.
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
        separator = "["
        for image_id in method.predictions:
            for result in _results(image_id, method.predictions.instances(image_id), classes):
                lines.write(f"{separator}\n{json.dumps(result)}".encode())
                separator = ","
        lines.write(b"\n]\n" if separator == "," else b"[]\n")


def _results(image_id: str, instances: Instances, classes: Sequence[str]) -> Iterator[Any]:
    for mask, label, score in zip(instances.masks, instances.label, instances.score, strict=True):
        yield {
            "image_id": image_id,
            "category_id": int(label) + 1,
            "category": classes[label],
            "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
            "score": float(score),
        }


def write_per_class(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write the numbers of all classes as CSV, a row a method, protocol and class."""
    rows = [
        {"method": method, "protocol": protocol, "class": class_name, **numbers}
        for method, protocol, summary in summaries(metrics)
        for class_name, numbers in summary["per_class"].items()
    ]
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    files.write_bytes(path, text.getvalue().encode())


def summaries(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, protocol and numbers of all that were judged."""
    for method, by_protocol in metrics.items():
        for protocol, summary in by_protocol.items():
            yield method, protocol, summary
