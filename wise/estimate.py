"""Estimate of the time of a run on this machine, from a rehearsal with untrained networks.

A few steps of each training are timed, and the other stages on a few photographs. With trained
networks the times differ where they depend on the numbers of peaks and detections.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.proposals import Proposals
from pipeline.artifacts.split import Photograph, Split
from pipeline.classifier.features import views
from pipeline.classifier.inference import as_input
from pipeline.classifier.network import Prm
from pipeline.classifier.peaks import PeaksParameters, locate
from pipeline.classifier.retrieval import RetrievalParameters, retrieve
from pipeline.classifier.training import (
    PrmParameters,
    fine_tuning,
    head_training,
    is_frozen,
    others_for,
    untrained,
)
from pipeline.common import masks, runtime
from pipeline.common.masks import Rle
from pipeline.community.inference import CommunityPredictionsParameters
from pipeline.community.inference import predict as detect_among
from pipeline.community.network import Community
from pipeline.community.training import CommunityParameters, community_training
from pipeline.dataset.others import with_others
from pipeline.detectors.mask_rcnn.inference import predict
from pipeline.detectors.mask_rcnn.network import MaskRcnn
from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters, detector_training
from pipeline.detectors.predictions import PredictionsParameters
from pipeline.detectors.refinement import RefinementParameters, refine
from pipeline.detectors.upper_bound import MaskRcnnGtParameters
from pipeline.proposals.imported import read_proposals
from pipeline.proposals.methods import proposer_of
from pipeline.proposals.parameters import ProposalsParameters
from pipeline.proposals.sharpmask.inference import propose_windows
from pipeline.proposals.sharpmask.network import SharpMask
from pipeline.proposals.sharpmask.parameters import SharpMaskParameters
from pipeline.proposals.sharpmask.source import read_source
from pipeline.proposals.sharpmask.training import sharpmask_trainings
from pipeline.pseudo_masks.sampler import SamplerParameters, draw
from pipeline.training.batches import EpochSample
from pipeline.training.fit import Training, to_device
from stages.common.shelf import Shelf

# Number of photographs, and of training samples, that are timed.
TIMED = 4
# Window in which masks of an untrained SharpMask are averaged: height and width in pixels.
SMOOTHED = (15, 15)
# Largest measured mean size of a stored SharpMask proposal, see docs/performance.md.
MASK_BYTES = 430
# Both import torch: the process of the stage, and the server that its workers are forked from.
PROCESSES_A_STAGE = 2
# Each takes less than a minute per thousand photographs, besides its start.
NOT_TIMED = ["scenes", "dataset", "calibration", "evaluation", "report"]

Given = ParamSpec("Given")
Result = TypeVar("Result")
Propose = Callable[[Photograph], Proposals]


class Settings(NamedTuple):
    """The parameters of the stages that are timed, in the order of the pipeline."""

    prm: PrmParameters
    peaks: PeaksParameters
    sharpmask: SharpMaskParameters
    proposals: ProposalsParameters
    sampler: SamplerParameters
    community: CommunityParameters
    community_predictions: CommunityPredictionsParameters
    mask_rcnn: MaskRcnnParameters
    predictions: PredictionsParameters
    refinement: RefinementParameters
    retrieval: RetrievalParameters
    mask_rcnn_gt: MaskRcnnGtParameters


class Estimate(NamedTuple):
    """The estimated time and disk space of a run.

    Attributes
    ----------
    seconds : time of each timed stage, without its start.
    start_seconds : total time of the starts of all stages.
    not_timed : stages that were not timed.
    stored_bytes : maximum size of proposals, peaks and networks.
    photograph_bytes : size of the photographs, which are not copied.
    free_bytes : free space on the disk of the working folder.
    """

    seconds: dict[str, float]
    start_seconds: float
    not_timed: list[str]
    stored_bytes: int
    photograph_bytes: int
    free_bytes: int

    def total(self) -> float:
        """Total seconds of the run."""
        return sum(self.seconds.values()) + self.start_seconds


def estimate(splits: Mapping[str, Split], settings: Settings) -> Estimate:
    """Estimate the time and disk space of a run.

    Raises
    ------
    InputError
        If another input of the run cannot be used, such as the masks for SharpMask.
    """
    runtime.keep_freed_memory()
    few = _few(splits["train"])
    train, val = (len(splits[name].photographs) for name in ("train", "val"))
    seconds: dict[str, float] = {}
    prm = untrained(few, settings.prm)
    with runtime.device_memory("prm.schedule.batch_size"):
        seconds["prm"], stored = _classifier(prm, few, splits["train"], settings.prm)
    mask_rcnn_training = detector_training("mask_rcnn", few, InTheMiddle(few), settings.mask_rcnn)
    with runtime.device_memory("mask_rcnn.schedule.batch_size"):
        seconds["mask_rcnn"] = _seconds(mask_rcnn_training, train)
    detector = mask_rcnn_training.network
    stored += _bytes(prm) + _bytes(detector)
    if _trains_sharpmask(settings.proposals):
        source = read_source(Path(settings.sharpmask.path))
        sharpmask, phases = sharpmask_trainings(source, settings.sharpmask)
        with runtime.device_memory("sharpmask.deepmask.batch_size"):
            seconds["sharpmask"] = sum(_seconds(phase, len(phase.samples)) for phase in phases)
        stored += _bytes(sharpmask)
        propose = _untrained_proposer(sharpmask, few, settings.proposals)
    else:
        propose = _proposer(splits["train"], settings.proposals)

    if settings.community.enabled:
        boxes = RandomBoxes(few, settings.proposals.max_proposals)
        community = community_training(few, boxes, settings.community)
        with runtime.device_memory("community.schedule.batch_size"):
            seconds["community"] = _seconds(community, train)
        stored += _bytes(community.network)
        look = partial(_detect, few, community.network, boxes, settings.community_predictions)
        with _one_thread(), runtime.device_memory("community_predictions.max_size"):
            looking = median(_timed(look, photograph)[1] for photograph in few.photographs)
        seconds["community_predictions"] = (train + val) * looking / _at_once()

    rehearse = partial(_rehearse, few, prm, propose, detector, settings)
    with _one_thread(), runtime.device_memory("prm.image_size or proposals.sharpmask.max_scale"):
        rehearsed = [rehearse(photograph) for photograph in few.photographs]
    on_cores = ["sampler", "refinement"]
    if settings.proposals.method in ("grouping", "import"):
        on_cores.append("proposals")
    # Seconds per image. The processes of a stage share its work, but on a GPU they take turns.
    one = {
        stage: median(of[stage] for of, _ in rehearsed) / _at_once(stage in on_cores)
        for stage in rehearsed[0][0]
    }
    for stage in ("peaks", "sampler"):
        seconds[stage] = train * one[stage]
    for stage in ("proposals", "predictions", "refinement", "retrieval"):
        seconds[stage] = (train + val) * one[stage]
    # This stage computes the peaks of val itself.
    seconds["retrieval"] += val * one["peaks"]
    rounds, detecting = settings.mask_rcnn.rounds, train * one["predictions"]
    seconds["mask_rcnn"] *= rounds
    if settings.mask_rcnn_gt.enabled:  # as many steps, on other masks
        seconds["mask_rcnn_gt"] = seconds["mask_rcnn"] + seconds["predictions"]
    seconds["mask_rcnn"] += (rounds - 1) * detecting

    an_image = median(stored_bytes for _, stored_bytes in rehearsed)
    return Estimate(
        {stage: seconds[stage] for stage in Settings._fields if stage in seconds},
        (len(seconds) + len(NOT_TIMED)) * PROCESSES_A_STAGE * _timed(_start_process)[1],
        NOT_TIMED,
        stored + round((train + val) * an_image),
        sum(split.path(p).stat().st_size for split in splits.values() for p in split.photographs),
        shutil.disk_usage(Path.cwd()).free,
    )


def _few(split: Split) -> Split:
    """Select a few photographs with tags, spread over the split."""
    tagged = [photograph for photograph in split.photographs if photograph.tags]
    spread = tagged[:: max(1, len(tagged) // TIMED)][:TIMED]
    return split.model_copy(update={"photographs": tuple(spread)})


class InTheMiddle:
    """Stand-in for the unknown pseudo masks: one object in the middle of the image per tag."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._photographs = {photograph.id: photograph for photograph in split.photographs}

    def __contains__(self, image_id: object, /) -> bool:
        return image_id in self._photographs

    def instances(self, image_id: str, _: int, /) -> Instances:
        """Return the objects of an image, the same at each epoch."""
        photograph = self._photographs[image_id]
        height, width = photograph.height, photograph.width
        shape = np.zeros((1, height, width), bool)
        shape[:, height // 4 : height - height // 4, width // 4 : width - width // 4] = True
        label = np.array(self._split.labels(photograph), np.int16)
        return Instances(masks.encode(shape) * len(label), label, np.ones(len(label), np.float32))

    def alternatives(self, _: str, /) -> Instances:
        """Return none."""
        return Instances.none()


def _classifier(
    network: Prm, few: Split, train: Split, parameters: PrmParameters
) -> tuple[float, int]:
    """Estimate the seconds of the classifier's training, and the bytes of features it keeps."""
    if Path(parameters.others).is_dir():
        with TemporaryDirectory() as folder:
            train = with_others(train, Path(parameters.others), Path(folder))
    photographs, others = len(train.photographs), others_for(train, parameters)
    if not is_frozen(parameters):
        return _seconds(fine_tuning(network, few, parameters), photographs), 0
    network.eval()

    def compute(photograph: Photograph) -> NDArray[np.float16]:
        both: NDArray[np.float16] = views(network, [few.image(photograph)])[0]
        return both

    with _one_thread():
        timed = [_timed(compute, photograph) for photograph in few.photographs]
    computing = median(seconds for _, seconds in timed) / _at_once()
    features = [both for both, _ in timed]
    training = head_training(
        network, few, parameters, lambda item, mirrored: features[item][int(mirrored)]
    )
    trained_on = photographs + (len(others) if others else 0)
    seconds = photographs * computing + _seconds(training, trained_on)
    return seconds, photographs * features[0].nbytes


def _seconds(training: Training[Any], items: int) -> float:
    """Estimate the seconds of a training with `items` samples per epoch."""
    network, samples, schedule = training.network, training.samples, training.schedule
    device = runtime.device()
    with _one_thread():
        first = range(min(TIMED, len(samples)))
        loaded = [_timed(samples.__getitem__, EpochSample(0, item)) for item in first]
    some = cycle(sample for sample, _ in loaded)
    batch = samples.collate(list(islice(some, schedule.batch_size)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)

    def step() -> None:
        optimizer.zero_grad()
        with runtime.autocast(device):
            terms = training.loss(to_device(batch, device))
        torch.stack([term.total / term.count for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    network.train()
    # The median of three steps, because the first one prepares the kernels.
    computing = median(_timed(step)[1] for _ in range(3))
    network.eval()
    loading = schedule.batch_size * median(seconds for _, seconds in loaded)
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    # Loading overlaps with computing, as far as there are workers and cores for both.
    work_of_cores = (threads * computing + loading) / (os.cpu_count() or 1)
    a_step = max(computing, loading / runtime.workers(), work_of_cores)
    return schedule.epochs * items / schedule.batch_size * a_step


class RandomBoxes:
    """Stand-in for the boxes of proposals: as many as are used, anywhere in the photograph."""

    def __init__(self, split: Split, count: int) -> None:
        self._sizes = {p.id: (p.height, p.width) for p in split.photographs}
        self._relative = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(0))

    def __contains__(self, image_id: object, /) -> bool:
        return image_id in self._sizes

    def boxes(self, image_id: str, /) -> torch.Tensor:
        """Give the boxes of an image, float32 (count, 4), x1 y1 x2 y2 in pixels."""
        height, width = self._sizes[image_id]
        corners = self._relative.sort(dim=1).values * torch.tensor([width - 1.0, height - 1.0])
        corners[:, 1] += 1  # no side is 0
        return corners.flatten(1)


def _untrained_proposer(
    network: SharpMask, split: Split, parameters: ProposalsParameters
) -> Propose:
    return lambda photograph: propose_windows(
        network, split.image(photograph), parameters.sharpmask, parameters.max_proposals
    )


def _proposer(split: Split, parameters: ProposalsParameters) -> Propose:
    if parameters.method == "import":
        imported = read_proposals(
            Path(parameters.source) / "train.json", split, parameters.max_proposals
        )
        return lambda photograph: imported[photograph.id]
    propose = proposer_of(parameters)
    return lambda photograph: propose(split.path(photograph))


def _rehearse(
    few: Split,
    prm: Prm,
    propose: Propose,
    detector: MaskRcnn,
    settings: Settings,
    photograph: Photograph,
) -> tuple[dict[str, float], int]:
    """Time each stage in one process on a photograph, and count the bytes that it stores."""
    image, decoding = _timed(few.image, photograph)
    peaks, locating = _timed(locate, prm, image, few.labels(photograph), settings.peaks)
    proposals, proposing = _timed(propose, photograph)
    if _trains_sharpmask(settings.proposals):
        proposals = _smoothed(proposals)
    _, drawing = _timed(draw, peaks, proposals, settings.sampler, np.random.default_rng(0))
    (instances, _), predicting = _timed(predict, detector, image, settings.predictions.flip)
    _, refining = _timed(refine, instances, proposals, settings.refinement)
    maps, looking = _timed(_maps, prm, image)
    _, retrieving = _timed(
        retrieve, peaks, maps, proposals, prm.description.image_size, settings.retrieval
    )
    seconds = {
        "peaks": decoding + locating,
        "proposals": proposing,
        "sampler": drawing,
        "predictions": decoding + predicting,
        "refinement": refining,
        "retrieval": decoding + looking + retrieving,
    }
    return seconds, peaks.response.nbytes + _mask_bytes(proposals, settings.proposals)


def _detect(
    few: Split,
    network: Community,
    boxes: RandomBoxes,
    parameters: CommunityPredictionsParameters,
    photograph: Photograph,
) -> Instances:
    return detect_among(network, few.image(photograph), boxes.boxes(photograph.id), parameters)


@torch.inference_mode()
def _maps(network: Prm, image: NDArray[np.uint8]) -> torch.Tensor:
    maps: torch.Tensor = network(as_input(network, image))[0]
    return maps.float()


def _smoothed(proposals: Proposals) -> Proposals:
    """Smooth the masks of an untrained SharpMask.

    They are ragged: the codes are several times as long as those of a trained one, and so is the
    time of all that compares them.
    """
    smooth: list[Rle] = []
    for mask in proposals.masks:
        decoded = masks.decode([mask], *mask["size"]).astype(np.float32)
        smooth += masks.encode(ndimage.uniform_filter(decoded, (1, *SMOOTHED)) > 0.5)
    return Proposals(smooth, proposals.score)


def _at_once(on_cores: bool = False) -> int:
    """Give the number of images that the processes of a stage work on at once.

    `on_cores` is whether the stage computes on the cores even if there is a GPU.
    """
    return 1 if runtime.on_gpu(runtime.device()) and not on_cores else runtime.workers()


def _trains_sharpmask(parameters: ProposalsParameters) -> bool:
    return Shelf().holds_sharpmask_of(parameters.method, parameters.source)


def _mask_bytes(proposals: Proposals, parameters: ProposalsParameters) -> int:
    """Return the maximum size of the masks; those of an untrained SharpMask are not typical."""
    if _trains_sharpmask(parameters):
        return parameters.max_proposals * MASK_BYTES
    return sum(len(mask["counts"]) for mask in proposals.masks)


def _bytes(network: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in network.state_dict().values())


def _start_process() -> None:
    subprocess.run(
        [sys.executable, "-c", "import pipeline.detectors.mask_rcnn.training"], check=True
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with a single thread, as a worker process does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _timed(
    function: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs
) -> tuple[Result, float]:
    """Call a function; give its result and the seconds it took."""
    start = time.perf_counter()
    result = function(*arguments, **named)
    runtime.synchronize(runtime.device())
    return result, time.perf_counter() - start
