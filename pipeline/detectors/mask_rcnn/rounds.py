"""Training of a detector in rounds, each on the detections of the previous one.

The paper has one round.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from operator import attrgetter
from pathlib import Path
from typing import Any

from pipeline.artifacts.instances import InstanceStore, InstanceWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import runtime
from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters, detector_training
from pipeline.detectors.predictions import PredictionsParameters, Predictor
from pipeline.detectors.refinement import RefinementParameters, Refiner
from pipeline.execution.photographs import fill, fill_together
from pipeline.pseudo_masks.self_training import SelfTrainingMasks, TaggedDetections
from pipeline.pseudo_masks.supervision import Supervision
from pipeline.training.distributed import join
from pipeline.training.fit import LogEpoch, fit
from pipeline.training.results import write_results

Curves = Callable[[Path], AbstractContextManager[LogEpoch]]

# Detections in the training images that the next round may be trained on, as in COCO evaluation.
MIN_SCORE, MAX_DETECTIONS = 0.05, 100


def train_rounds(
    split: Split,
    supervision: Supervision,
    proposals: Path,
    parameters: MaskRcnnParameters,
    folder: Path,
    curves: Curves,
) -> tuple[Path, dict[str, float]]:
    """Train a detector in `parameters.rounds` rounds.

    Parameters
    ----------
    supervision : what the first round is trained on.
    proposals : the store that refines the detections between rounds.
    folder : receives one folder per round; a finished round in it is not repeated.
    curves : gives, for a folder, a context manager that logs the losses of each epoch there.

    Returns
    -------
    The folder of the last round, and its metrics: see `train_round`.
    """
    start: Path | None = None
    for number in range(1, parameters.rounds + 1):
        place = folder / f"round{number}"
        name = f"mask_rcnn, round {number}" if parameters.rounds > 1 else "mask_rcnn"
        metrics = train_round(name, split, supervision, parameters, place, curves, start)
        start = place / "weights.safetensors"
        if number < parameters.rounds:
            found = _detect(split, place, proposals, parameters)
            detections = TaggedDetections(split, found, parameters.min_relative_score)
            supervision = SelfTrainingMasks(detections, supervision)
    return place, metrics


def train_round(
    name: str,
    split: Split,
    supervision: Supervision,
    parameters: MaskRcnnParameters,
    folder: Path,
    curves: Curves,
    start: Path | None = None,
) -> dict[str, float]:
    """Train a detector once; write weights, curves and metrics to a folder.

    Returns
    -------
    The losses of the last epoch, and the numbers of images trained on and skipped.
    """
    training = detector_training(name, split, supervision, parameters, start)
    # Next to the folder: everything in the folder is kept.
    checkpoint = folder.with_name(f"{folder.name}.pt")
    losses = fit(training, checkpoint, curves(folder / "curves"))
    images = len(training.samples)
    skipped = len(split.photographs) - images
    metrics = {**losses, "images": images, "images_skipped": skipped}
    if runtime.is_main_process():
        write_results(folder, training.network, training.network.description, metrics)
    return metrics


def _detect(
    split: Split, folder: Path, proposals: Path, parameters: MaskRcnnParameters
) -> InstanceStore:
    """Detect instances in the training images with the weights of a round, and refine them."""
    detections = PredictionsParameters(
        min_score=MIN_SCORE,
        max_detections=MAX_DETECTIONS,
        presence_weight=0,
        mask_score_weight=0,
        flip=False,
        max_overlap=parameters.max_overlap,
    )
    predictor = Predictor(folder / "weights.safetensors", detections)
    found = _filled(
        fill_together,
        folder / "detections",
        split,
        predictor,
        split.path,
        "mask_rcnn, detections",
    )
    if parameters.min_vote_iou == 1:
        return found
    refinement = RefinementParameters(
        min_objectness=0,
        min_iou=parameters.min_vote_iou,
        vote=True,
        max_overlap=1,
        support_weight=0,
    )
    refiner = Refiner(found.path, proposals, refinement)
    return _filled(
        fill, folder / "refined", split, refiner, attrgetter("id"), "mask_rcnn, refinement"
    )


def _filled(
    how: Callable[..., None],
    place: Path,
    split: Split,
    function: Callable[..., Any],
    item: Callable[[Photograph], Any],
    what: str,
) -> InstanceStore:
    """Fill a store in the first process, by `fill` or `fill_together`, while the others wait."""
    if runtime.is_main_process():
        with InstanceWriter(place, "mask_rcnn", split.classes, {}) as store:
            how(store, function, item, split.photographs, what)
    join().wait()
    return InstanceStore(place)
