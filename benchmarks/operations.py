"""What each stage asks of a GPU: `python -m benchmarks.operations [PRESET]`.

Kernels, waits of the host, and multiply-adds are counted on the pretend GPU of the tests, with
untrained networks and photographs of noise. A kernel is an operation of torch that computes
something on the device; a few of them launch several. The times follow from these counts and from
the figures below: nothing is timed. Work of the host is not in them.
"""

import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry

from benchmarks.table import ROOT, machine
from benchmarks.training import full_step
from pipeline.artifacts.split import Photograph, Split
from pipeline.classifier.features import views
from pipeline.classifier.inference import as_inputs, presence
from pipeline.classifier.peaks import locate_all
from pipeline.classifier.retrieval import background, scores
from pipeline.classifier.training import fine_tuning, head_training, is_frozen, untrained
from pipeline.common import runtime
from pipeline.community.inference import predict as detect_among
from pipeline.community.training import community_training
from pipeline.dataset.scenes.files import draw_coco
from pipeline.detectors.mask_rcnn.inference import predict_all
from pipeline.detectors.mask_rcnn.training import detector_training
from pipeline.execution.photographs import GPU_BATCH
from pipeline.proposals.sharpmask.inference import propose_all
from pipeline.proposals.sharpmask.source import read_source
from pipeline.proposals.sharpmask.training import sharpmask_trainings
from pipeline.training.fit import Training
from stages.common.yaml_files import read_yaml
from tests.device import pretend
from wise.estimate import InTheMiddle, RandomBoxes, Settings
from wise.parameters import model
from wise.preset import write_preset

PRESET, HEIGHT, WIDTH, TAGS = "voc2012-animals-best", 375, 500, 2
TRAIN, VAL = 1_464, 606  # photographs of the animals benchmark
# Operations per second of an NVIDIA H100 SXM (its data sheet, without sparsity), of which a network
# reaches a part; what PyTorch takes to launch a kernel, and to wait for one.
RATES = {torch.float32: 67e12, torch.bfloat16: 989e12}
UTILIZATION = 0.3
LAUNCH_SECONDS, WAIT_SECONDS = 6e-6, 20e-6
# Operations without arithmetic or copy, besides views.
NOT_KERNELS = ("empty", "new_empty", "_unsafe_view", "_local_scalar_dense")


class Job(NamedTuple):
    """Work on a number of photographs.

    photographs : on which it works.
    total : photographs of the whole run, each as often as it is worked on.
    """

    name: str
    photographs: int
    total: int
    work: Callable[[], object]


class Counts(NamedTuple):
    """What a job asks of the device.

    multiply_adds : number by dtype.
    """

    kernels: int
    waits: int
    multiply_adds: Mapping[torch.dtype, int]

    def seconds(self) -> dict[str, float]:
        """Give the time of each kind of work, on paper."""
        of_dtypes = (2 * n / RATES[dtype] for dtype, n in self.multiply_adds.items())
        return {
            "launches": self.kernels * LAUNCH_SECONDS,
            "waits": self.waits * WAIT_SECONDS,
            "arithmetic": sum(of_dtypes) / UTILIZATION,
        }


class Counter(TorchDispatchMode):
    """Counts kernels and multiply-adds (by dtype) on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0
        self.multiply_adds: dict[torch.dtype, int] = defaultdict(int)

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute the operation, and count it."""
        given = kwargs or {}
        result = operation(*args, **given)
        leaves = tree_leaves((args, given, result))
        if any(isinstance(leaf, pretend.DeviceTensor) for leaf in leaves):
            self.kernels += _is_kernel(operation)
            formula = FORMULAS.get(operation.overloadpacket)
            if formula is not None:
                operations = formula(*args, **given, out_val=result)
                self.multiply_adds[_dtype(result)] += operations // 2
        return result


def _of_gradients(gradient: Any, images: Any, weight: Any, *settings: Any, **_: Any) -> int:
    """Count the operations of the gradients of a convolution: for each as many as it takes itself.

    torch's own formula counts those of grouped convolutions as if they had one group.
    """
    *_, transposed, _, _, wanted = settings
    once: int = conv_flop_count(images.shape, weight.shape, gradient.shape, transposed)
    return once * sum(wanted[:2])


# They count a multiply-add twice.
FORMULAS = {**flop_registry, torch.ops.aten.convolution_backward: _of_gradients}


def _dtype(result: Any) -> torch.dtype:
    return next(leaf.dtype for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))


def _is_kernel(operation: Any) -> bool:
    is_view = any(
        value.alias_info is not None and not value.alias_info.is_write
        for value in operation._schema.returns
    )
    return not is_view and not operation.overloadpacket.__name__.startswith(NOT_KERNELS)


def main(preset: str) -> None:
    """Print the machine and a Markdown table, a row as soon as it is counted."""
    runtime.keep_freed_memory()
    print(f"{machine()}; preset {preset}\n")
    print(
        "| job | kernels | waits | 10^9 multiply-adds | ms | limit | photographs | min |\n"
        "|---|---:|---:|---:|---:|---|---:|---:|",
        flush=True,
    )
    minutes = 0.0
    with tempfile.TemporaryDirectory() as name, pretend.in_use():
        folder = Path(name)
        for job in jobs(photographs(folder), read_settings(preset, folder), folder):
            counts = counted(job)
            minutes += _milliseconds(job, counts) * job.total / 60_000
            print(row(job, counts), flush=True)
    print(f"| total | | | | | | | {minutes:.1f} |")


def row(job: Job, counts: Counts) -> str:
    """Format the counts of a job as a row of the table; all but the last two for a photograph."""
    arithmetic = sum(counts.multiply_adds.values()) / 1e9
    milliseconds = _milliseconds(job, counts)
    each = [figure / job.photographs for figure in (counts.kernels, counts.waits, arithmetic)]
    seconds = counts.seconds()
    cells = [
        job.name,
        *(f"{figure:,.3g}" for figure in (*each, milliseconds)),
        max(seconds, key=lambda kind: seconds[kind]),
        f"{job.total:,}",
        f"{milliseconds * job.total / 60_000:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _milliseconds(job: Job, counts: Counts) -> float:
    """Compute the time of a photograph: kernels are launched while others compute."""
    seconds = counts.seconds()
    together = max(seconds["launches"], seconds["arithmetic"]) + seconds["waits"]
    return 1000 * together / job.photographs


def counted(job: Job) -> Counts:
    """Count what a job asks of the device."""
    pretend.waits.clear()
    with Counter() as counter:
        job.work()
    return Counts(counter.kernels, len(pretend.waits), counter.multiply_adds)


def jobs(split: Split, settings: Settings, folder: Path) -> Iterator[Job]:
    """Yield the work of each stage that computes on a GPU, a step of each training."""
    images = [split.image(split.photographs[0])] * GPU_BATCH
    prm, training = untrained(split, settings.prm), None
    if is_frozen(settings.prm):
        features = views(prm.eval(), images[:1])[0]
        job = "prm, features of a photograph and its mirror image"
        yield Job(job, GPU_BATCH, TRAIN, partial(views, prm, images))
        training = head_training(
            prm, split, settings.prm, lambda _, mirrored: features[int(mirrored)]
        )
    yield step("prm", training or fine_tuning(prm, split, settings.prm), TRAIN)
    labels = [split.labels(split.photographs[0])] * GPU_BATCH
    find = partial(locate_all, prm.eval(), images, labels, settings.peaks)
    yield Job("peaks", GPU_BATCH, TRAIN + VAL, find)  # retrieval computes those of val
    yield from _proposals(images, settings, folder)
    yield from _detector(split, images, prm, settings)
    yield Job("retrieval", GPU_BATCH, TRAIN + VAL, partial(_retrieve, prm, images, settings))
    if settings.community.enabled:
        yield from _community(split, images[0], settings)


def _proposals(images: list[Any], settings: Settings, folder: Path) -> Iterator[Job]:
    draw_coco(folder / "source", 4, seed=0)
    sharpmask, phases = sharpmask_trainings(read_source(folder / "source"), settings.sharpmask)
    for phase in phases:
        yield step(phase.name, phase, len(phase.samples))
    pyramid, count = settings.proposals.sharpmask, settings.proposals.max_proposals
    propose = partial(propose_all, sharpmask.eval(), images, pyramid, count)
    yield Job("proposals", GPU_BATCH, TRAIN + VAL, propose)


def _detector(split: Split, images: list[Any], prm: Any, settings: Settings) -> Iterator[Job]:
    training = detector_training("mask_rcnn", split, InTheMiddle(split), settings.mask_rcnn)
    rounds = settings.mask_rcnn.rounds
    yield step("mask_rcnn", training, rounds * TRAIN)
    detector = training.network.eval()

    def work() -> None:
        predict_all(detector, images, settings.predictions.flip)
        if settings.predictions.presence_weight:
            presence(prm, images)

    # Between two rounds, instances are detected in the training photographs.
    yield Job("predictions", GPU_BATCH, rounds * TRAIN + VAL, work)


def _community(split: Split, image: Any, settings: Settings) -> Iterator[Job]:
    boxes = RandomBoxes(split, settings.proposals.max_proposals)
    training = community_training(split, boxes, settings.community)
    yield step("community", training, TRAIN)
    network, of_image = training.network.eval(), boxes.boxes(split.photographs[0].id)
    work = partial(detect_among, network, image, of_image, settings.community_predictions)
    yield Job("community_predictions", 1, TRAIN + VAL, work)


@torch.inference_mode()
def _retrieve(prm: Any, images: list[Any], settings: Settings) -> None:
    """Compute class maps and scores as `Retriever`, with a peak for each tag."""
    size, of = prm.description.image_size, settings.retrieval
    cells = size // settings.peaks.response_stride
    shapes = np.zeros((min(of.max_candidates, settings.proposals.max_proposals), size, size), "u1")
    for maps in prm(as_inputs(prm, images)).float():
        backgrounds = background(maps, size, of.background_threshold)[:TAGS]
        scores(shapes, torch.zeros(TAGS, cells, cells), backgrounds, of)


def step(name: str, training: Training[Any], items: int) -> Job:
    """Return a step of a training on `items` per epoch."""
    size, epochs = training.schedule.batch_size, training.schedule.epochs
    work = full_step(training)
    work()  # the first one makes the state of the optimizer
    return Job(f"{name}, a step of {size}", size, epochs * items, work)


def photographs(folder: Path) -> Split:
    """Write photographs of noise, of the usual size, with `TAGS` tags each."""
    rng = np.random.default_rng(0)
    classes = tuple(f"class {number}" for number in range(5))
    listed = []
    for number in range(4):
        pixels = rng.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        Image.fromarray(pixels).resize((WIDTH, HEIGHT)).save(folder / f"{number}.png")
        listed.append(
            Photograph(
                id=str(number),
                file=f"{number}.png",
                height=HEIGHT,
                width=WIDTH,
                sha256="",
                tags=classes[:TAGS],
            )
        )
    return Split(root=str(folder), classes=classes, photographs=tuple(listed))


def read_settings(preset: str, folder: Path) -> Settings:
    """Read the parameters of a preset."""
    shutil.copytree(ROOT / "presets", folder / "presets")
    write_preset(preset, folder)
    values = read_yaml(folder / "params.yaml")
    return Settings(**{name: model(name).parse(values[name], name) for name in Settings._fields})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else PRESET)
