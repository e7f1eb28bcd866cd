"""Images per second of Mask R-CNN training, compared with torchvision's reference loop.

The peer reimplements the loop of torchvision's `references/detection`: the same network in
torchvision's `GeneralizedRCNN`, whose transform resizes and pads in the training process; four
loaders that decode, flip and return lists of float images; SGD; the value of the loss read at each
step; torch's defaults for memory and layout. Each side runs in its own process, because the memory
allocator is set once per process. Then the steps of the best animals preset are compared with those
of its earlier settings. Then single optimizations of a step are measured; bf16, `torch.compile`
and larger batches only on a GPU. `python -m benchmarks.training profile` prints the operations
that a step spends its time on.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.v2.functional import pil_to_tensor

from benchmarks.table import ROOT, Line, side_by_side
from pipeline.artifacts.draws import Draws, DrawStore, DrawWriter
from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.common import masks, runtime
from pipeline.dataset.scenes.files import draw_coco
from pipeline.detectors.mask_rcnn.network import MaskRcnn, MaskRcnnDescription
from pipeline.detectors.mask_rcnn.training import (
    MaskedPhotographs,
    MaskRcnnParameters,
    detector_training,
    mask_rcnn_loss,
    target,
)
from pipeline.proposals.sharpmask.source import SourceImage, read_source
from pipeline.pseudo_masks.supervision import PseudoMasks
from pipeline.training.batches import EpochSample, make_loader
from pipeline.training.distributed import Processes
from pipeline.training.fit import Mean, Training, fit, to_device
from pipeline.training.schedule import make_optimizer
from stages.common.curves import curves
from stages.common.parameters import read_yaml
from wise.preset import write_preset

IMAGES, EPOCHS, BATCH, RUNS = 32, 2, 4, 2
LARGER_BATCH = 16
WARM_UP, PROFILED = 4, 3  # steps
OPTIMIZATIONS = ("channels last", "fused SGD", "bf16", "torch.compile")
CPU_OPTIMIZATIONS = OPTIMIZATIONS[:2]
CLASSES = ("object",)
BEST = "voc2012-animals-best"
# What the preset had at commit 1f91ca1.
SLOWER = {"trainable_backbone_layers": 5}
SLOWER_ARCHITECTURE = {"finest_stride": 4, "anchor_size": 16.0}
SGD = {"lr": 0.0025, "momentum": 0.9, "weight_decay": 0.0001}


def lines() -> Iterator[Line]:
    """Compare ours with the reference loop, then a preset before and after, and optimizations."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_coco(folder / "source", IMAGES, seed=0)
        write_stores(folder, CLASSES)
        rates: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(RUNS):
            for side, measured in rates.items():
                measured.append(_in_a_process(side, folder))
        yield Line(
            f"Mask R-CNN training, the embedded scenes' widths, batch {BATCH}",
            "images/s",
            max(rates["ours"]),
            "torchvision's reference loop",
            max(rates["theirs"]),
            f"the better of {RUNS} runs each",
        )
        yield _best_preset(folder)
        yield from _optimizations(folder)
        if runtime.on_gpu(runtime.device()):
            yield larger_batch(folder)


def print_profile() -> None:
    """Print the operations of `PROFILED` steps that take longest."""
    runtime.keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_coco(folder / "source", BATCH, seed=0)
        write_stores(folder, CLASSES)
        step = _stepper(_batch(_samples(folder), BATCH), _used())
    for _ in range(WARM_UP):
        step()
    on_gpu = runtime.on_gpu(runtime.device())
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        for _ in range(PROFILED):
            step()
    longest = f"self_{'device' if on_gpu else 'cpu'}_time_total"
    print(profiled.key_averages().table(sort_by=longest, row_limit=12))


def _in_a_process(side: str, folder: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", side, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    return float(done.stdout)


def _parameters() -> MaskRcnnParameters:
    """Return the default parameters, with the optimizer of the reference."""
    values = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())["mask_rcnn"]
    values["schedule"] |= {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "optimizer": "sgd",
        "max_grad_norm": 0.0,
    }
    values["schedule"] |= {"learning_rate": SGD["lr"], "weight_decay": SGD["weight_decay"]}
    return MaskRcnnParameters.parse(values, "mask_rcnn")


def _network() -> MaskRcnn:
    runtime.seed_everything(0)
    architecture = _parameters().architecture
    return MaskRcnn(MaskRcnnDescription(classes=CLASSES, architecture=architecture), "package")


def write_stores(folder: Path, classes: tuple[str, ...]) -> None:
    """Write stores of `folder`/source: each object is a proposal, drawn with the first class."""
    photographs = []
    with (
        ProposalWriter(folder / "proposals", "truth", "masks", {}) as proposed,
        DrawWriter(folder / "draws", classes, {}) as drawn,
    ):
        for image in read_source(folder / "source"):
            name, count = image.path.stem, len(image.objects)
            photographs.append(
                Photograph(
                    id=name,
                    file=str(image.path),
                    height=image.height,
                    width=image.width,
                    sha256="",
                    tags=classes[:1],
                )
            )
            rles = masks.encode(np.stack([image.mask(thing) for thing in image.objects]))
            proposals = Proposals(rles, np.ones(count, np.float32))
            proposed.add(name, image.height, image.width, proposals)
            labels, draw = np.zeros(count, np.int16), np.arange(count, dtype=np.int32)
            none = [np.empty(0, np.int32)] * count, [np.empty(0, np.float32)] * count
            draws = Draws(labels, *none, np.stack([draw] * EPOCHS, 1), np.ones(count, bool))
            drawn.add(name, image.height, image.width, draws)
    split = Split(root="/", classes=classes, photographs=tuple(photographs))
    split.write(folder / "train.json")


def _samples(folder: Path) -> MaskedPhotographs:
    return MaskedPhotographs(*supervised(folder), _parameters())


def supervised(folder: Path) -> tuple[Split, PseudoMasks]:
    """Open what `write_stores` wrote."""
    split = Split.read(folder / "train.json")
    draws, proposals = DrawStore(folder / "draws"), ProposalStore(folder / "proposals")
    return split, PseudoMasks(split, draws, proposals, EPOCHS)


def ours(folder: Path) -> float:
    """Measure images per second of `fit`, as the stage calls it."""
    runtime.keep_freed_memory()
    network = runtime.channels_last(_network(), runtime.device())
    loss, starts = mask_rcnn_loss(network), []

    def timed_loss(batch: Any) -> Mapping[str, Mean]:
        starts.append(time.perf_counter())
        return loss(batch)

    samples, schedule = _samples(folder), _parameters().schedule
    with tempfile.TemporaryDirectory() as unfinished:
        training = Training("ours", network, timed_loss, samples, schedule, 0)
        fit(training, Path(unfinished) / "checkpoint.pt", curves(Path(unfinished) / "curves"))
    return _rate(starts)


def theirs(folder: Path) -> float:
    """Measure images per second of the reference loop."""
    device = runtime.device()
    network, architecture = _network(), _parameters().architecture
    for part in (network.rpn, network.heads):
        seeded = part.fg_bg_sampler
        part.fg_bg_sampler = BalancedPositiveNegativeSampler(
            seeded.batch_size_per_image, seeded.positive_fraction
        )
    transform = GeneralizedRCNNTransform(
        architecture.min_size, architecture.max_size, [0.0] * 3, [1.0] * 3
    )
    model = GeneralizedRCNN(_PyramidBackbone(network), network.rpn, network.heads, transform).to(
        device
    )
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], **SGD)
    loader = DataLoader(
        _TrueMasks(read_source(folder / "source")),
        batch_size=BATCH,
        shuffle=True,
        num_workers=4,
        collate_fn=_collate,
    )
    starts = []
    model.train()
    for _ in range(EPOCHS):
        for images, targets in loader:
            starts.append(time.perf_counter())
            on_device = [{name: value.to(device) for name, value in one.items()} for one in targets]
            total = sum(model([image.to(device) for image in images], on_device).values())
            assert np.isfinite(total.item())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
    return _rate(starts)


def _rate(starts: Sequence[float]) -> float:
    """Compute images per second from the starts of all steps, without the warm-up."""
    return BATCH * (len(starts) - 1 - WARM_UP) / (starts[-1] - starts[WARM_UP])


class _PyramidBackbone(nn.Module):
    """Backbone and feature pyramid in the form that `GeneralizedRCNN` expects."""

    def __init__(self, network: MaskRcnn) -> None:
        super().__init__()
        self.backbone, self.pyramid = network.backbone, network.pyramid

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = OrderedDict((str(level), of) for level, of in enumerate(self.backbone(images)))
        pyramid: dict[str, Tensor] = self.pyramid(maps)
        return pyramid


class _TrueMasks(Dataset[Any]):
    """Images at their own size, as float in 0..1, flipped with probability 0.5."""

    def __init__(self, source: Sequence[SourceImage]) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, item: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = self._source[item]
        pixels = pil_to_tensor(Image.open(image.path).convert("RGB"))
        shapes = np.stack([image.mask(thing) for thing in image.objects]).view(np.uint8)
        shapes = torch.from_numpy(shapes)
        if torch.rand(()) < 0.5:
            pixels, shapes = pixels.flip(2), shapes.flip(2)
        return pixels / 255, target(shapes, np.zeros(len(shapes), np.int16))


def _collate(batch: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(zip(*batch, strict=True))


def _best_preset(folder: Path) -> Line:
    """Compare the steps of the best animals preset with those of its earlier settings."""
    shutil.copytree(ROOT / "presets", folder / "presets")
    write_preset(BEST, folder)
    values = read_yaml(folder / "params.yaml")["mask_rcnn"]
    now = MaskRcnnParameters.parse(values, "mask_rcnn")
    values |= SLOWER
    values["architecture"] |= SLOWER_ARCHITECTURE
    before = MaskRcnnParameters.parse(values, "mask_rcnn")
    seconds = side_by_side(
        _epoch(folder, now, as_before=False), _epoch(folder, before, as_before=True), runs=3
    )
    now_takes, before_took = (1000 * value / (IMAGES // BATCH) for value in seconds)
    job, peer = f"a Mask R-CNN step, {BEST}", "its settings of 1f91ca1"
    note = "all layers trained, stride 4, aspect ratios mixed, new memory filled with NaN"
    return Line(job, "ms", now_takes, peer, before_took, note)


def _epoch(folder: Path, parameters: MaskRcnnParameters, *, as_before: bool) -> Callable[[], None]:
    """Build the steps of one epoch, on batches that are loaded already."""
    runtime.keep_freed_memory()
    training = detector_training("epoch", *supervised(folder), parameters)
    network, samples, schedule = training.network.train(), training.samples, training.schedule
    device = runtime.device()
    ratios = None if as_before else training.aspect_ratios
    order = make_loader(samples, schedule, 0, 0, Processes(), ratios).batch_sampler
    first_epoch = islice(order, IMAGES // BATCH)
    batches = [samples.collate([samples[one] for one in batch]) for batch in first_epoch]
    optimizer = make_optimizer(network, schedule)

    def epoch() -> None:
        torch.utils.deterministic.fill_uninitialized_memory = as_before  # type: ignore[attr-defined]
        for batch in batches:
            with runtime.autocast(device):
                terms = training.loss(to_device(batch, device))
            optimizer.zero_grad()
            totals = [term.total / term.count for term in terms.values()]
            torch.stack(totals).sum().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), schedule.max_grad_norm)
            optimizer.step()

    return epoch


def full_step(training: Training[Any]) -> Callable[[], None]:
    """Build a step of any training on a full batch, which is loaded and on the host."""
    network, samples, schedule = training.network.train(), training.samples, training.schedule
    items = [EpochSample(0, number % len(samples)) for number in range(schedule.batch_size)]
    batch, device = samples.collate([samples[item] for item in items]), runtime.device()
    if runtime.on_gpu(device):
        batch = tree_map_only(torch.Tensor, torch.Tensor.pin_memory, batch)  # as loaders do
    optimizer = make_optimizer(network, schedule)

    def step() -> None:
        optimizer.zero_grad()
        with runtime.autocast(device):
            terms = training.loss(to_device(batch, device))
        torch.stack([term.total / term.count for term in terms.values()]).sum().backward()
        optimizer.step()

    return step


def _optimizations(folder: Path) -> Iterator[Line]:
    """Yield the milliseconds of a step with and without each optimization."""
    runtime.keep_freed_memory()
    batch, used = _batch(_samples(folder), BATCH), _used()
    on_gpu = runtime.on_gpu(runtime.device())
    for optimization in OPTIMIZATIONS if on_gpu else CPU_OPTIMIZATIONS:
        with_it, without = (
            _stepper(batch, used | {optimization}),
            _stepper(batch, used - {optimization}),
        )
        seconds = side_by_side(with_it, without, runs=5)
        milliseconds = [1000 * value for value in seconds]
        yield Line(
            f"a Mask R-CNN step, {optimization}", "ms", milliseconds[0], "without", milliseconds[1]
        )


def larger_batch(folder: Path) -> Line:
    """Compare the images per second of steps of two sizes."""
    samples, sizes = _samples(folder), (LARGER_BATCH, BATCH)
    larger, smaller = (_stepper(_batch(samples, size), _used()) for size in sizes)
    seconds = side_by_side(larger, smaller, runs=5)
    ours, theirs = (size / taken for size, taken in zip(sizes, seconds, strict=True))
    job, peer = f"a Mask R-CNN step, batch {LARGER_BATCH}", f"batch {BATCH}"
    return Line(job, "images/s", ours, peer, theirs)


def _batch(samples: MaskedPhotographs, size: int) -> Any:
    return samples.collate([samples[EpochSample(0, item)] for item in range(size)])


def _used() -> set[str]:
    """Return the optimizations that the stage uses on this device."""
    on_gpu = runtime.on_gpu(runtime.device())
    return {"channels last"} | ({"fused SGD", "bf16"} if on_gpu else set())


def _stepper(batch: Any, optimizations: set[str]) -> Callable[[], None]:
    """Build a training step with some of the `OPTIMIZATIONS`."""
    device = runtime.device()
    layout = torch.channels_last if "channels last" in optimizations else torch.contiguous_format
    network = _network().to(device).to(memory_format=layout).train()  # type: ignore[call-overload]
    if "torch.compile" in optimizations:
        network.backbone.compile()  # of the rest, shapes change with every image
    loss = mask_rcnn_loss(network)
    optimizer = torch.optim.SGD(network.parameters(), fused="fused SGD" in optimizations, **SGD)

    def step() -> None:
        placed = to_device(batch, device)
        placed["images"] = placed["images"].contiguous(memory_format=layout)
        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in optimizations):
            terms = loss(placed)
        optimizer.zero_grad()
        torch.stack([term.total / term.count for term in terms.values()]).sum().backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["profile"]:
            print_profile()
        case [side, folder]:
            print({"ours": ours, "theirs": theirs}[side](Path(folder)))
