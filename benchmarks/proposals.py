"""Proposals of one photograph of usual size, by SharpMask and by grouping.

Here, SharpMask computes all windows of a scale in one pass. The simple version crops each window
and runs backbone and heads on it. Both score all windows of the published scales and compute the
masks of the best thousand. The heads are untrained, which only affects the shapes of the masks.
Grouping has no simple version: two processes are compared with one.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut
from torch import Tensor

from benchmarks.table import ROOT, Line, side_by_side
from pipeline.common import runtime
from pipeline.proposals import grouping
from pipeline.proposals.parameters import ProposalsParameters
from pipeline.proposals.sharpmask.inference import propose_windows
from pipeline.proposals.sharpmask.network import (
    OUTSIDE,
    PATCH,
    STRIDE,
    SharpMask,
    SharpMaskDescription,
    window_parts,
)

HEIGHT, WIDTH, COUNT = 375, 500, 1_000
AT_A_TIME = 32  # patches of the plain version
CONTEXT = 224  # pixels around a patch beyond which nothing changes its features
DESCRIPTION = SharpMaskDescription(
    backbone="tf_efficientnet_lite0",
    feature_channels=128,
    code_channels=512,
    score_channels=1024,
    lateral_channels=32,
    refinement_channels=32,
    trained_on="nothing",
)


def lines() -> Iterator[Line]:
    """Yield images per second."""
    values = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())["proposals"]
    values["sharpmask"] |= {"min_scale": -2.5, "max_scale": 0.0}
    parameters = ProposalsParameters.parse(values, "proposals")
    image = photograph()
    network = untrained()
    scales = parameters.sharpmask.scales()
    ours, theirs = side_by_side(
        partial(propose_windows, network, image, parameters.sharpmask, COUNT),
        partial(plain, network, image, scales),
        runs=1,
    )
    note = f"logits differ by {difference(network, image):.0e} at most, away from the border"
    job = f"{COUNT:,} SharpMask proposals, {HEIGHT}x{WIDTH}, {len(scales)} scales"
    yield Line(job, "images/s", 1 / ours, "each window separately", 1 / theirs, note)

    alone = partial(grouping.propose, image, parameters.grouping, COUNT)
    with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
        two, one = side_by_side(
            lambda: [future.result() for future in [pool.submit(alone), pool.submit(alone)]],
            alone,
            runs=3,
        )
    job = f"proposals by grouping, {HEIGHT}x{WIDTH}, two processes"
    yield Line(job, "images/s", 2 / two, "one process", 1 / one)


def photograph() -> NDArray[np.uint8]:
    """Return a photograph of scikit-image, uint8 (HEIGHT, WIDTH, 3)."""
    return np.asarray(Image.fromarray(astronaut()).resize((WIDTH, HEIGHT)))


def untrained() -> SharpMask:
    """Build a network with a backbone pretrained on ImageNet and untrained heads."""
    torch.manual_seed(0)
    return runtime.channels_last(SharpMask(DESCRIPTION, "package"), runtime.device()).eval()


@torch.inference_mode()
def plain(network: SharpMask, image: NDArray[np.uint8], scales: list[float]) -> Tensor:
    """Compute masks (COUNT, 1, 160, 160) of the best windows, each window separately."""
    masks, scores = [], []
    for scale in scales:
        for patches in torch.split(windows(image, scale), AT_A_TIME):
            of_patches, objectness = network(patches.to(runtime.device()) / 255)
            masks.append(of_patches)
            scores.append(objectness)
    return torch.cat(masks)[torch.cat(scores).topk(COUNT).indices]


def windows(image: NDArray[np.uint8], scale: float) -> Tensor:
    """Crop all patches at a scale, uint8 (n, 3, 192, 192), with centers inside the image."""
    h, w = round(HEIGHT * scale), round(WIDTH * scale)
    pixels = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
    beyond = [(PATCH // 2, PATCH // 2 + -side % STRIDE) for side in (h, w)]
    padded = torch.from_numpy(np.pad(pixels, [*beyond, (0, 0)], constant_values=OUTSIDE))
    grid = padded.unfold(0, PATCH, STRIDE).unfold(1, PATCH, STRIDE)
    return grid.reshape(-1, 3, PATCH, PATCH)


@torch.inference_mode()
def difference(network: SharpMask, image: NDArray[np.uint8]) -> float:
    """Compute the largest difference of a window's logits: in one pass, and cropped.

    The crop includes all pixels that the window's features depend on, so that the padding at the
    border makes no difference.
    """
    side, (down, right) = PATCH + 2 * CONTEXT, (2, 1)  # steps of the grid
    pixels = Image.fromarray(image).resize((side + 3 * STRIDE, side + 3 * STRIDE))
    whole = torch.from_numpy(np.array(pixels)).to(runtime.device()).permute(2, 0, 1)[None] / 255
    top, left = down * STRIDE, right * STRIDE
    cut = whole[..., top : top + side, left : left + side]
    place = CONTEXT // STRIDE
    answers = (
        window(network, whole, place + down, place + right),
        window(network, runtime.channels_last(cut, runtime.device()), place, place),
    )
    return max(float((one - other).abs().max()) for one, other in zip(*answers, strict=True))


def window(network: SharpMask, images: Tensor, y: int, x: int) -> tuple[Tensor, Tensor]:
    """Compute the score and the mask, as logits, of the window at a position of the grid."""
    ys, xs = (torch.tensor([place], device=images.device) for place in (y, x))
    features, code = network.deepmask(images)
    masks = network.refinement(
        code[0, :, ys, xs].T, window_parts(network.refinement.lateral(features), ys, xs)
    )
    return network.deepmask.scores(code)[0, ys, xs], masks
