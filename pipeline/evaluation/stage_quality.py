"""Quality of proposals and peaks on images with true masks.

Proposals are evaluated without classes, as in SharpMask (section 4): average recall of the COCO
benchmark over IoU 0.50 to 0.95, and the best overlap with each true instance. Peaks are evaluated
by whether they lie on an instance of their class (WISE, section 3.1), and by the IoU of this
instance with the candidate masks and the drawn masks of the sampler (Eq. 1).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.draws import Draws, DrawStore
from pipeline.artifacts.peaks import PeakStore, Points
from pipeline.artifacts.proposals import Proposals, ProposalStore
from pipeline.artifacts.truth import TrueImage, Truth
from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.evaluation.measures import matched

COUNTS = (10, 100, 1000)
THRESHOLDS = np.linspace(0.5, 0.95, 10)
# The sizes of COCO, separated by the areas of squares with these sides in pixels.
SIZES = ("small", "medium", "large")
_SIDES = (32, 96)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Columns of equal length; the rows of several images can be concatenated."""

    @classmethod
    def concatenate(cls, parts: Iterable[Self]) -> Self:
        """Concatenate the columns of at least one part."""
        parts = list(parts)
        names = [field.name for field in fields(cls)]
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})

    def where(self, chosen: NDArray[np.bool_]) -> Self:
        """Keep the chosen rows."""
        columns = {field.name: getattr(self, field.name)[chosen] for field in fields(self)}
        return type(self)(**columns)


@dataclass(frozen=True)
class Coverage(Rows):
    """How well proposals cover n true instances; k columns for the k numbers of `COUNTS`.

    label : int64 (n,), index of the class.
    area : int64 (n,), in pixels.
    overlap : float64 (n, k), highest IoU with the first proposals.
    recall : float64 (n, k), fraction of the thresholds at which the first proposals find it.
    recall_of_size : float64 (n, k), recall if only instances of its size are searched.
    """

    label: NDArray[np.int64]
    area: NDArray[np.int64]
    overlap: Floats
    recall: Floats
    recall_of_size: Floats


def compare_proposals(image: TrueImage, proposals: Proposals) -> Coverage:
    """Compare the proposals of an image with its true instances."""
    true = image.masks()
    overlaps = masks.iou(true, proposals.masks)
    area = masks.area(true)
    size = _sizes(area)
    recall_of_size = np.zeros((len(true), len(COUNTS)))
    for number in range(len(SIZES)):
        recall_of_size[size == number] = recall_at_counts(overlaps[size == number])
    best = [overlaps[:, :count].max(axis=1, initial=0.0) for count in COUNTS]
    return Coverage(
        image.labels().astype(np.int64),
        area,
        np.stack(best, 1),
        recall_at_counts(overlaps),
        recall_of_size,
    )


def recall_at_counts(overlaps: Floats) -> Floats:
    """Match instances to proposals as the COCO benchmark does.

    At each threshold, every proposal, best first, is matched to the unmatched instance of highest
    IoU, if this IoU reaches the threshold.

    Parameters
    ----------
    overlaps : IoU, float64 (instances, proposals), with proposals by descending score.

    Returns
    -------
    Fraction of the thresholds at which an instance is matched to one of the first proposals:
    float64 (instances, k) for the k numbers of `COUNTS`.
    """
    instances, proposals = overlaps.shape
    found_by = np.full((len(THRESHOLDS), instances), proposals + max(COUNTS))
    useful = np.flatnonzero((overlaps >= THRESHOLDS[0]).any(axis=0))
    for threshold, finder in zip(THRESHOLDS, found_by, strict=True):
        free = overlaps.copy()
        for proposal in useful:
            instance = free[:, proposal].argmax()
            if free[instance, proposal] >= threshold:
                finder[instance] = proposal
                free[instance] = -1.0
    return np.stack([(found_by < count).mean(axis=0) for count in COUNTS], 1)


def proposal_quality(truth: Truth, store: ProposalStore) -> dict[str, Any]:
    """Evaluate the proposals of all images that have true masks, one image at a time.

    Returns
    -------
    The metrics, in percent except counts, None if unknown:

    - `images`, `instances`: counts
    - `AR@k`: average recall of the first k proposals
    - `overlap@k`: best overlap with the first k proposals, mean over instances
    - `class_overlap@k`: the same, mean over the means of classes
    - `above50`, `above75`: fraction of instances with a proposal of at least that IoU
    - `by_size`, `per_class`: the same metrics for each size and class
    """
    nothing = np.zeros((0, len(COUNTS)))
    no_rows = Coverage(np.zeros(0, np.int64), np.zeros(0, np.int64), *3 * [nothing])
    covered = (compare_proposals(image, store.proposals(image.id)) for image in truth.images)
    found = Coverage.concatenate([no_rows, *covered])
    size = _sizes(found.area)
    by_size = {
        name: _means(rows := found.where(size == number), rows.recall_of_size)
        for number, name in enumerate(SIZES)
    }
    per_class = {
        name: _means(rows := found.where(found.label == label), rows.recall)
        for label, name in enumerate(truth.classes)
    }
    class_overlap = {
        f"class_{name}": _mean_of_known([means[name] for means in per_class.values()])
        for name in (f"overlap@{count}" for count in COUNTS)
    }
    return {
        "images": len(truth.images),
        **_means(found, found.recall),
        **class_overlap,
        "by_size": by_size,
        "per_class": per_class,
    }


def _means(found: Coverage, recall: Floats) -> dict[str, Any]:
    best = found.overlap[:, -1]
    return {
        "instances": len(found.label),
        **{f"AR@{count}": _percent(recall[:, k]) for k, count in enumerate(COUNTS)},
        **{f"overlap@{count}": _percent(found.overlap[:, k]) for k, count in enumerate(COUNTS)},
        "above50": _percent(best >= 0.5),
        "above75": _percent(best >= 0.75),
    }


@dataclass(frozen=True)
class Hits(Rows):
    """The true instances and proposals at n peaks.

    label : int64 (n,), index of the class.
    instance : int64 (n,), index of the true instance of this class at the peak; -1 if none.
    covered : bool (n,), whether any proposal contains the peak.
    best, first, drawn : float64 (n,), IoU of this instance with the best proposal at the peak,
        with the one of highest objectness, and with the drawn ones (mean over epochs); NaN if
        there is no instance or no proposal.
    """

    label: NDArray[np.int64]
    instance: NDArray[np.int64]
    covered: NDArray[np.bool_]
    best: Floats
    first: Floats
    drawn: Floats


@dataclass(frozen=True)
class Drawn(Rows):
    """Whether the n pseudo masks of the first epoch are right.

    label : int64 (n,), index of the class.
    right : bool (n,), whether the mask is matched to a true instance, see `matched`.
    """

    label: NDArray[np.int64]
    right: NDArray[np.bool_]


def compare_peaks(image: TrueImage, peaks: Points, proposals: Proposals, draws: Draws) -> Hits:
    """Compare the peaks of an image, and the proposals drawn for them, with its true instances.

    Raises
    ------
    InputError
        If the draws belong to other peaks.
    """
    points = np.stack([peaks.y, peaks.x], 1)
    true = image.masks()
    on = masks.contains(true, points) & (image.labels()[:, None] == peaks.label)
    instance = np.argmax(np.vstack([on, ~on.any(axis=0)]), axis=0)
    instance[instance == len(true)] = -1
    covered = np.asarray(masks.contains(proposals.masks, points).any(axis=0), bool)
    if not np.array_equal(peaks.label[covered], draws.label):
        raise InputError(f"the draws of {image.id} belong to other peaks; run all stages again")
    overlap = np.full((len(points), 3), math.nan)
    for row, peak in enumerate(np.flatnonzero(covered)):
        if instance[peak] >= 0:
            candidates = draws.candidate[row]
            there = [proposals.masks[number] for number in candidates]
            (overlaps,) = masks.iou([true[instance[peak]]], there)
            drawn = overlaps[np.searchsorted(candidates, draws.draw[row])]
            overlap[peak] = overlaps.max(), overlaps[0], drawn.mean()
    return Hits(peaks.label.astype(np.int64), instance, covered, *overlap.T)


def peak_quality(
    truth: Truth, peaks: PeakStore, proposals: ProposalStore, draws: DrawStore
) -> dict[str, Any]:
    """Evaluate the peaks of all images that have true masks, one image at a time.

    Returns
    -------
    The metrics, in percent except counts, None if unknown:

    - `images`, `instances`, `peaks`: counts
    - `hit_instances`: fraction of instances with a peak of their class
    - `right_peaks`: fraction of peaks on an instance of their class
    - `covered_peaks`: fraction of the right peaks inside a proposal
    - `best`, `top_scoring`, `drawn`: IoU of the instance at a covered peak with the best proposal
      there, with the one of highest objectness, and with the drawn ones (mean over epochs)
    - `pseudo_masks`: number of masks of the first epoch
    - `precision`, `recall`, `F1`: of these masks, at IoU 0.5
    - `per_class`: the same metrics for each class
    """
    none = np.zeros(0, np.int64)
    hits = [Hits(none, none, none.astype(bool), *3 * [none.astype(np.float64)])]
    drawn = [Drawn(none, none.astype(bool))]
    true_label, is_hit = [none], [none.astype(bool)]
    for image in truth.images:
        candidates, drawn_masks = proposals.proposals(image.id), draws.draws(image.id)
        of_image = compare_peaks(image, peaks.points(image.id), candidates, drawn_masks)
        hits.append(of_image)
        first = drawn_masks.instances(candidates, epoch=0)
        drawn.append(Drawn(first.label.astype(np.int64), matched(image.as_instances(), first)))
        true_label.append(image.labels().astype(np.int64))
        is_hit.append(np.isin(np.arange(len(image.instances)), of_image.instance))
    found, labels, hit = Hits.concatenate(hits), np.concatenate(true_label), np.concatenate(is_hit)
    pseudo_masks = Drawn.concatenate(drawn)
    return {
        "images": len(truth.images),
        **_peak_means(found, hit, pseudo_masks.right),
        "per_class": {
            name: _peak_means(
                found.where(found.label == label),
                hit[labels == label],
                pseudo_masks.right[pseudo_masks.label == label],
            )
            for label, name in enumerate(truth.classes)
        },
    }


def _peak_means(
    found: Hits, hit: NDArray[np.bool_], pseudo_masks: NDArray[np.bool_]
) -> dict[str, Any]:
    right = found.where(found.instance >= 0)
    covered = right.where(right.covered)
    return {
        "instances": len(hit),
        "peaks": len(found.label),
        "hit_instances": _percent(hit),
        "right_peaks": _percent(found.instance >= 0),
        "covered_peaks": _percent(right.covered),
        "best": _percent(covered.best),
        "top_scoring": _percent(covered.first),
        "drawn": _percent(covered.drawn),
        "pseudo_masks": len(pseudo_masks),
        "precision": _percent(pseudo_masks),
        "recall": _ratio(int(pseudo_masks.sum()), len(hit)),
        "F1": _ratio(2 * int(pseudo_masks.sum()), len(hit) + len(pseudo_masks)),
    }


def quality_rows(
    what: str, quality: Mapping[str, Mapping[str, Any]], parts: str
) -> list[dict[str, Any]]:
    """Return the quality of each split, first of the whole and then of its `parts`, as table rows.

    Parameters
    ----------
    what : heading of the first column, which names the rows.
    quality : split -> result of `proposal_quality` or `peak_quality`.
    parts : `by_size` or `per_class`.
    """
    rows = []
    for split, whole in quality.items():
        columns = [name for name, value in whole.items() if not isinstance(value, Mapping)]
        named = {split: whole} | {f"{split}, {part}": means for part, means in whole[parts].items()}
        for name, means in named.items():
            rows.append({what: name} | {column: means.get(column) for column in columns})
    return rows


def _sizes(area: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the index in `SIZES` of objects with these areas in pixels."""
    return np.digitize(area, [side**2 for side in _SIDES])


def _ratio(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 4) if whole else None


def _percent(values: NDArray[np.bool_] | Floats) -> float | None:
    return round(100 * float(values.mean()), 4) if len(values) else None


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None
