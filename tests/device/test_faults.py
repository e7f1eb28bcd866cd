"""Planted faults, which only a GPU would show: the pretend one has to notice each."""

import copy
import inspect
import textwrap
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pipeline.classifier import inference, network, peak_response, peaks, retrieval
from pipeline.classifier.training import prm_loss
from pipeline.common import runtime
from pipeline.community import inference as community
from pipeline.community.network import Community
from pipeline.detectors.mask_rcnn import inference as detection
from pipeline.detectors.mask_rcnn.network import MaskRcnn
from pipeline.proposals.sharpmask import inference as proposals
from pipeline.proposals.sharpmask.network import SharpMask
from pipeline.training import fit, schedule
from pipeline.training.distributed import Processes
from tests.support.tiny import COMMUNITY, HEIGHT, MASK_RCNN, PRM, SHARPMASK, WIDTH

# Of an untrained network, maps are nowhere above the usual threshold.
LOW_THRESHOLD = COMMUNITY.model_copy(
    update={"architecture": COMMUNITY.architecture.model_copy(update={"mask_threshold": 0.1})}
)
REFUSED = (RuntimeError, TypeError, AssertionError)


@pytest.fixture(scope="module")
def networks():
    """Tiny networks on the CPU."""
    torch.manual_seed(0)
    made = {
        "prm": network.Prm(PRM, "none").eval(),
        "mask_rcnn": MaskRcnn(MASK_RCNN, "none", min_score=0.0, max_detections=10).eval(),
        "sharpmask": SharpMask(SHARPMASK, "none").eval(),
        "community": Community(LOW_THRESHOLD, "none").eval(),
    }
    return {name: runtime.channels_last(one, torch.device("cpu")) for name, one in made.items()}


@pytest.fixture
def placed(networks, gpu):
    """The same on the pretend GPU."""
    copies = {name: copy.deepcopy(one) for name, one in networks.items()}
    return {name: runtime.channels_last(one, runtime.device()) for name, one in copies.items()}


def photograph():
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def step(gpu, networks, placed):
    """A step of the classifier, which does not wait."""
    trained = placed["prm"].train()
    settings = {
        "epochs": 1,
        "batch_size": 2,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "backbone_lr_factor": 1.0,
        "weight_decay": 0.0,
    }
    settings = schedule.Schedule.model_validate(settings)
    optimizer = schedule.make_optimizer(trained, settings)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate_factor(settings, 1))
    of_features = prm_loss(trained, "mean")

    def loss(batch):
        images, tags = batch
        return of_features((trained.backbone(images / 255), tags))

    pixels = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    batch = [part.pin_memory() for part in (pixels, torch.eye(2))]
    run = fit._Run(trained, optimizer, rates, Processes(), 1, ema_decay=0.0)
    gpu.waits.clear()
    terms = fit._step(run, loss, 1.0, 0, batch)
    assert not gpu.waits
    assert torch.isfinite(terms["loss"])


def find_peaks(gpu, networks, placed):
    """Peaks and responses of two photographs: four waits, no TF32, and the numbers of a CPU."""
    settings = peaks.PeaksParameters(
        min_relative_height=0.0, response="peak", response_stride=4, scales=(64, 96), flip=True
    )
    expected = peaks.locate(networks["prm"], photograph(), [0, 1], settings)
    gpu.waits.clear()
    gpu.roundings.clear()
    found, _ = peaks.locate_all(placed["prm"], [photograph()] * 2, [[0, 1], [1]], settings)
    assert len(gpu.waits) <= 4
    assert not gpu.roundings
    np.testing.assert_array_equal(found.label, expected.label)
    np.testing.assert_allclose(found.response, expected.response, rtol=1e-4, atol=1e-7)


def detect(gpu, networks, placed):
    """Detections of an image: at most 40 waits."""
    gpu.waits.clear()
    found, _ = detection.predict(placed["mask_rcnn"], photograph(), flip=False)
    assert len(found.masks)
    assert len(gpu.waits) <= 40


def detect_among(gpu, networks, placed):
    """Detections among the regions of community learning: at most 40 waits."""
    settings = community.CommunityPredictionsParameters(
        min_sizes=(64,),
        max_size=96,
        max_regions=20,
        nms_threshold=1.0,
        min_score=0.0,
        max_detections=10,
    )
    corner = torch.arange(10.0)
    regions = torch.stack([corner, corner, corner + 50, corner + 40], 1)
    gpu.waits.clear()
    found = community.predict(placed["community"], photograph(), regions, settings)
    assert len(found.masks)
    assert len(gpu.waits) <= 40


def propose(gpu, networks, placed):
    settings = {
        "min_scale": 0.0,
        "max_scale": 0.0,
        "octave_step": 0.5,
        "mask_threshold": 0.2,
        "nms_threshold": 1.0,
        "flip": True,
    }
    settings = proposals.PyramidParameters.parse(settings, "sharpmask")
    assert proposals.propose_windows(placed["sharpmask"], photograph(), settings, 10).masks


def retrieve(gpu, networks, placed):
    """The scores of masks for peaks: the numbers of a CPU."""
    rng = np.random.default_rng(0)
    shapes = (rng.random((4, 8, 8)) < 0.5).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    responses, maps = torch.rand(3, 16, 16), torch.rand(3, 8, 8)
    settings = retrieval.RetrievalParameters(
        min_peak_height=0.0,
        max_candidates=4,
        min_area=0.0,
        max_area=1.0,
        balance=0.8,
        penalty=1e-4,
        background_threshold=0.95,
        nms_threshold=0.3,
    )
    expected, found = (
        retrieval.scores(
            shapes, responses, retrieval.background(maps.to(device), 64, 0.95), settings
        )
        for device in (torch.device("cpu"), runtime.device())
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def predict_presence(gpu, networks, placed):
    inference.presence(placed["prm"], [photograph()])


FAULTS = {
    "cells numbered on the CPU": (
        step,
        network.find_peaks,
        "torch.arange(height * width, device=maps.device)",
        "torch.arange(height * width)",
    ),
    "a batch that stays on the CPU": (
        step,
        fit._step,
        "loss(to_device(batch, device))",
        "loss(batch)",
    ),
    "a count on the CPU": (step, fit._on, ", device=device)", ")"),
    "a loss that is read at every step": (step, fit._step, "means.sum()}", "means.sum().item()}"),
    "an image that stays on the CPU": (
        find_peaks,
        inference.as_inputs,
        "runtime.channels_last(pixels, device)",
        "pixels",
    ),
    "maps that stay on the GPU": (
        find_peaks,
        peaks.locate_all,
        "parameters).cpu()",
        "parameters)",
    ),
    "responses as an array without a copy": (
        find_peaks,
        peaks.locate_all,
        "responses.cpu().numpy()",
        "responses.numpy()",
    ),
    "a wait in every convolution": (
        find_peaks,
        peak_response._convolve,
        "runtime.on_gpu(cells.device) or lowest.any()",
        "lowest.any()",
    ),
    "indices that stay on the CPU": (
        find_peaks,
        peak_response.PeakBackpropagation._together,
        "indices.to(start.device, non_blocking=True)",
        "indices",
    ),
    "convolutions of responses in TF32": (
        find_peaks,
        runtime.without_tf32,
        "torch.backends.cudnn.allow_tf32 = False",
        "torch.backends.cudnn.allow_tf32 = True",
    ),
    "matrix products of responses in TF32": (
        find_peaks,
        runtime.without_tf32,
        "torch.backends.cuda.matmul.allow_tf32 = False",
        "torch.backends.cuda.matmul.allow_tf32 = True",
    ),
    "boxes that stay on the GPU": (
        detect,
        detection._instances,
        'found["boxes"].cpu() * torch.tensor([width / size[1], height / size[0]] * 2)',
        'found["boxes"] * found["boxes"].new_tensor([width / size[1], height / size[0]] * 2)',
    ),
    "scores as an array without a copy": (
        detect,
        detection._instances,
        'found["scores"][kept].cpu().numpy()',
        'found["scores"][kept].numpy()',
    ),
    "features of the detector in bfloat16": (
        detect,
        MaskRcnn.features,
        "level.float()",
        "level",
    ),
    "regions that stay on the CPU": (
        detect_among,
        community.predict,
        "boxes.to(device)",
        "boxes",
    ),
    "masks pasted at boxes on the GPU": (
        detect_among,
        community._masks,
        "boxes.cpu(), size",
        "boxes, size",
    ),
    "masks in bfloat16": (
        propose,
        proposals._refine,
        "torch.stack(masks_of_views).float()",
        "torch.stack(masks_of_views)",
    ),
    "masks as an array without a copy": (
        propose,
        proposals._place_on_gpu,
        "inside.cpu().numpy()",
        "inside.numpy()",
    ),
    "the pixels of a window on the CPU": (
        propose,
        proposals._resizing,
        "torch.from_numpy(inside).to(device)",
        "torch.from_numpy(inside)",
    ),
    "shapes that stay on the CPU": (
        retrieve,
        retrieval.scores,
        "torch.from_numpy(shapes).to(backgrounds.device)",
        "torch.from_numpy(shapes)",
    ),
    "probabilities as an array without a copy": (
        predict_presence,
        inference.presence,
        ".cpu().numpy()",
        ".numpy()",
    ),
}


@pytest.mark.parametrize(
    "work", [step, find_peaks, detect, detect_among, propose, retrieve, predict_presence]
)
def test_without_a_fault_nothing_is_noticed(work, gpu, networks, placed):
    work(gpu, networks, placed)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault, gpu, networks, placed):
    work, function, old, new = FAULTS[fault]
    with planted(function, old, new), pytest.raises(REFUSED):
        work(gpu, networks, placed)


@contextmanager
def planted(function, old, new):
    """Replace a part of a function's source, wherever the function is used."""
    function = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1
    edited, code = dict(function.__globals__), function.__code__
    exec(compile(source.replace(old, new), code.co_filename, "exec"), edited)
    function.__code__ = inspect.unwrap(edited[function.__name__]).__code__
    try:
        yield
    finally:
        function.__code__ = code
