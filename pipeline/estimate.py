"""How long a run will take on this machine: a few real images and steps of training, timed."""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline import runtime
from pipeline.artifacts.proposals import Proposals
from pipeline.artifacts.split import Photograph, Split
from pipeline.mask_rcnn import MaskRcnnParameters, mask_rcnn_loss, target
from pipeline.mask_rcnn_gt import MaskRcnnGtParameters
from pipeline.networks.mask_rcnn import MaskRcnn, MaskRcnnDescription, fit_size, pad, to_size
from pipeline.networks.prm import Prm
from pipeline.peaks import PeaksParameters, locate
from pipeline.predictions import PredictionsParameters, predict
from pipeline.prm import PrmParameters, TaggedImages, prm_loss, untrained
from pipeline.proposals import Grouper, ProposalsParameters
from pipeline.training import Loss, Schedule, Visit, to_device

TIMED = 4


class Settings(NamedTuple):
    """The parameters of the stages that are timed."""

    prm: PrmParameters
    peaks: PeaksParameters
    proposals: ProposalsParameters
    mask_rcnn: MaskRcnnParameters
    predictions: PredictionsParameters
    mask_rcnn_gt: MaskRcnnGtParameters


class Estimate(NamedTuple):
    """What a run needs.

    seconds : of every stage that was timed.
    not_timed : the stages that were not.
    proposal_bytes : of the proposals of all photographs, None where they were not timed.
    photograph_bytes : of the photographs, which are not copied.
    free_bytes : on the disk of the working folder.
    """

    seconds: dict[str, float]
    not_timed: list[str]
    proposal_bytes: int | None
    photograph_bytes: int
    free_bytes: int


def estimate(splits: Mapping[str, Split], settings: Settings) -> Estimate:
    """Time the stages with untrained networks on the first photographs of train."""
    runtime.keep_freed_memory()
    train = splits["train"]
    first = train.photographs[:TIMED]
    images = sum(len(split.photographs) for split in splits.values())
    prm, step = _prm(train, settings.prm)
    seconds = {
        "prm": step * _steps(train, settings.prm.schedule),
        "peaks": len(train.photographs)
        * _seconds_an_image(
            first,
            lambda p: locate(prm, train.image(p), train.labels(p), settings.peaks),
        ),
    }
    proposal_bytes = None
    if settings.proposals.method == "grouping":
        proposals: list[Proposals] = []
        group = Grouper(settings.proposals)
        seconds["proposals"] = images * _seconds_an_image(
            first, lambda p: proposals.append(group(train.path(p)))
        )
        of_first = sum(len(rle["counts"]) for found in proposals for rle in found.masks)
        proposal_bytes = round(of_first / len(proposals) * images)
    detector, step = _mask_rcnn(train, settings)
    seconds["mask_rcnn"] = step * _steps(train, settings.mask_rcnn.schedule)
    seconds["predictions"] = images * _seconds_an_image(
        first, lambda p: predict(detector, train.image(p))
    )
    if settings.mask_rcnn_gt.enabled:  # as many steps, on other masks
        seconds["mask_rcnn_gt"] = seconds["mask_rcnn"] + seconds["predictions"]
    others = [
        "sharpmask",
        "proposals",
        "sampler",
        "refinement",
        "retrieval",
        "evaluation",
        "report",
    ]
    if settings.proposals.method != "sharpmask":
        others.remove("sharpmask")
    return Estimate(
        seconds,
        [name for name in others if name not in seconds],
        proposal_bytes,
        sum(split.path(p).stat().st_size for split in splits.values() for p in split.photographs),
        shutil.disk_usage(Path.cwd()).free,
    )


def _prm(split: Split, parameters: PrmParameters) -> tuple[Prm, float]:
    """An untrained classifier, and the seconds of a step of its training."""
    network = untrained(split, parameters)
    samples = TaggedImages(split, parameters.side, parameters.seed)
    items = islice(cycle(range(min(TIMED, len(samples)))), parameters.schedule.batch)
    batch = samples.collate([samples[Visit(0, item)] for item in items])
    seconds = _seconds_a_step(network, prm_loss(network, parameters.peak_gradient), batch)
    return network.eval(), seconds


def _mask_rcnn(split: Split, settings: Settings) -> tuple[MaskRcnn, float]:
    """An untrained detector, and the seconds of a step of its training."""
    parameters = settings.mask_rcnn
    description = MaskRcnnDescription(classes=split.classes, architecture=parameters.architecture)
    network = MaskRcnn(
        description,
        parameters.weights,
        settings.predictions.score_threshold,
        settings.predictions.detections,
    ).to(runtime.device())
    network.to(memory_format=torch.channels_last)
    images, targets = [], []
    for photograph in islice(cycle(split.photographs[:TIMED]), parameters.schedule.batch):
        size = fit_size(photograph.height, photograph.width, parameters.architecture)
        images.append(to_size(split.image(photograph), size))
        # What pseudo masks there will be is not known: an object in the middle, for each tag.
        shape = torch.zeros((1, *size), dtype=torch.uint8)
        shape[:, size[0] // 4 : -(size[0] // 4), size[1] // 4 : -(size[1] // 4)] = 1
        labels = np.array(split.labels(photograph) or [0], np.int16)
        targets.append(target(shape.repeat(len(labels), 1, 1), labels))
    padded, sizes = pad(images)
    batch = {"images": padded, "sizes": sizes, "targets": targets}
    seconds = _seconds_a_step(network, mask_rcnn_loss(network), batch)
    return network.eval(), seconds


def _steps(split: Split, schedule: Schedule) -> int:
    return schedule.epochs * math.ceil(len(split.photographs) / schedule.batch)


def _seconds_a_step(network: torch.nn.Module, loss: Loss, batch: Any) -> float:
    """The fastest of three steps, as later ones are: the first of all prepares the kernels."""
    device = runtime.device()
    network.train()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            terms = loss(to_device(batch, device))
        torch.stack([term.total / term.count for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
        network.zero_grad()

    return min(_seconds(step) for _ in range(3))


def _seconds_an_image(
    photographs: Sequence[Photograph], function: Callable[[Photograph], Any]
) -> float:
    """Seconds of the median photograph, shared among the worker processes, of one thread each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        taken = [_seconds(partial(function, photograph)) for photograph in photographs]
    finally:
        torch.set_num_threads(threads)
    return float(np.median(taken)) / runtime.workers()


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
