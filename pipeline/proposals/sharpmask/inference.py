"""Object proposals of a photograph by a trained SharpMask."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from pipeline.artifacts.proposals import Proposals
from pipeline.artifacts.weights import load_network
from pipeline.common import masks, runtime
from pipeline.common.images import read_image
from pipeline.common.masks import Rle
from pipeline.common.parameters import Parameters
from pipeline.proposals.sharpmask.network import (
    OUTSIDE,
    PATCH,
    STRIDE,
    WINDOW,
    SharpMask,
    SharpMaskDescription,
    window_parts,
)

_WINDOWS_PER_BATCH = 64


class PyramidParameters(Parameters):
    """Settings of the method `sharpmask`: how a trained network is run on a photograph."""

    renamed: ClassVar[Mapping[str, str]] = {
        "smallest_scale": "min_scale",
        "largest_scale": "max_scale",
        "nms": "nms_threshold",
    }

    min_scale: float = Field(
        ge=-6, le=3, description="smallest scale of the image pyramid, as an exponent of 2"
    )
    max_scale: float = Field(
        ge=-6, le=3, description="largest scale of the image pyramid, as an exponent of 2"
    )
    octave_step: float = Field(gt=0, description="step between two scales, in octaves")
    mask_threshold: float = Field(
        gt=0, lt=1, description="minimum probability of a pixel inside the mask"
    )
    nms_threshold: float = Field(
        gt=0,
        le=1,
        description="IoU threshold of non-maximum suppression of masks; 1: no suppression",
    )
    flip: bool = Field(description="also run on the mirror image, and average scores and masks")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.min_scale > self.max_scale:
            raise ValueError("min_scale is above max_scale")
        return self

    def scales(self) -> list[float]:
        """Return the scales of the pyramid, ascending."""
        steps = math.floor((self.max_scale - self.min_scale) / self.octave_step + 1e-6)
        return [2 ** (self.min_scale + step * self.octave_step) for step in range(steps + 1)]


@dataclass(frozen=True)
class SharpMaskProposer:
    """Computes the proposals of photographs; each process loads the weights once."""

    weights: Path
    parameters: PyramidParameters
    count: int

    def __call__(self, photograph: Path) -> Proposals:
        """Propose masks for a photograph, best first."""
        network = _load(self.weights)
        return propose_windows(network, read_image(photograph), self.parameters, self.count)


@cache
def _load(weights: Path) -> SharpMask:
    network = load_network(weights, SharpMaskDescription, partial(SharpMask, weights="none"))
    return runtime.channels_last(network, runtime.device()).eval()


def propose_windows(
    network: SharpMask, image: NDArray[np.uint8], parameters: PyramidParameters, count: int
) -> Proposals:
    """Propose the masks of the best windows of all scales (SharpMask, section 5).

    Similar masks are suppressed if `parameters.nms_threshold` is below 1.

    Parameters
    ----------
    image : uint8 (height, width, 3), of any size.
    count : maximum number of proposals.

    Returns
    -------
    At most `count` non-empty masks at the size of the image, by descending score.
    """
    levels = [_scan(network, image, scale, parameters.flip) for scale in parameters.scales()]
    scores = np.concatenate([level.scores.ravel() for level in levels])
    # Stable, so that equal scores keep the order of scales and positions.
    ranked = np.argsort(-scores, kind="stable")
    rles: list[Rle] = []
    chosen, seen = ranked[:0], 0
    # Empty and suppressed masks are replaced by those of the windows next in rank.
    while len(rles) < count and seen < len(ranked):
        some = ranked[seen : seen + max(count - len(rles), _WINDOWS_PER_BATCH)]
        drawn = _draw_windows(network, levels, some, image.shape[:2], parameters.mask_threshold)
        kept = np.flatnonzero(masks.area(drawn))
        if parameters.nms_threshold < 1:
            kept = kept[masks.nms([drawn[i] for i in kept], parameters.nms_threshold, rles)]
        rles += [drawn[i] for i in kept]
        chosen = np.append(chosen, some[kept])
        seen += len(some)
    return Proposals(rles[:count], scores[chosen[:count]])


@dataclass(frozen=True)
class _View:
    """The network's output for an image at one scale, or for its mirror image.

    Attributes
    ----------
    code : (1, channels, y, x), the code of each window.
    laterals : lateral maps, strides 16 to 2.
    """

    code: Tensor
    laterals: list[Tensor]


@dataclass(frozen=True)
class _Level:
    """The network's output for one level of the image pyramid.

    Attributes
    ----------
    scale : patch pixels per image pixel, along y and x.
    scores : float32 (y, x), objectness of each window of the grid, 0 to 1.
    views : the view of the image, followed by that of its mirror image if `flip` is set.
    """

    scale: tuple[float, float]
    scores: NDArray[np.float32]
    views: list[_View]


@torch.inference_mode()
def _scan(network: SharpMask, image: NDArray[np.uint8], scale: float, flip: bool) -> _Level:
    """Encode and score all windows. Their centers cover the image from edge to edge."""
    height, width = image.shape[:2]
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    pixels = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
    padded = np.full((_padded(h), _padded(w), 3), OUTSIDE, np.uint8)
    padded[PATCH // 2 : PATCH // 2 + h, PATCH // 2 : PATCH // 2 + w] = pixels
    device = runtime.device()
    batch = torch.from_numpy(padded).to(device).permute(2, 0, 1)[None] / 255
    scores, views = [], []
    with runtime.autocast(device):
        for mirrored in (False, True) if flip else (False,):
            features, code = network.deepmask(batch.flip(3) if mirrored else batch)
            logits = network.deepmask.scores(code)[0].float()
            scores.append(logits.flip(1) if mirrored else logits)
            views.append(_View(code, network.refinement.lateral(features)))
    probabilities = torch.sigmoid(torch.stack(scores).mean(0)).cpu().numpy()
    return _Level((h / height, w / width), probabilities, views)


def _padded(length: int) -> int:
    """Return the padded length for windows centered at 0, 16, ... up to at least `length`."""
    return PATCH + STRIDE * math.ceil(length / STRIDE)


def _draw_windows(
    network: SharpMask,
    levels: Sequence[_Level],
    windows: NDArray[np.int64],
    size: tuple[int, ...],
    threshold: float,
) -> list[Rle]:
    """Compute the masks of some windows, given by their indices over all levels, in order."""
    rles: dict[int, Rle] = {}
    first = 0
    for level in levels:
        in_level = windows[(windows >= first) & (windows < first + level.scores.size)]
        drawn = _draw(network, level, in_level - first, size, threshold)
        rles |= zip(in_level.tolist(), drawn, strict=True)
        first += level.scores.size
    return [rles[window] for window in windows.tolist()]


def _draw(
    network: SharpMask,
    level: _Level,
    windows: NDArray[np.int64],
    size: tuple[int, ...],
    threshold: float,
) -> list[Rle]:
    """Compute masks of windows of one level, at the photograph's `size` (height, width)."""
    places = np.stack(np.unravel_index(windows, level.scores.shape), axis=1)
    rles: list[Rle] = []
    for start in range(0, len(places), _WINDOWS_PER_BATCH):
        some = places[start : start + _WINDOWS_PER_BATCH]
        logits = _refine(network, level, some)
        rles += _place(logits, some, level.scale, size, math.log(threshold / (1 - threshold)))
    return rles


@torch.inference_mode()
def _refine(network: SharpMask, level: _Level, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Compute mask logits, float32 (n, 160, 160), of the windows at grid positions (y, x)."""
    ys, xs = torch.from_numpy(places).to(level.views[0].code.device).T
    masks_of_views = []
    for view, mirrored in zip(level.views, (False, True), strict=False):
        # The grid is symmetric: the mirror image of a window is again a window of the grid.
        columns = level.scores.shape[1] - 1 - xs if mirrored else xs
        with runtime.autocast(ys.device):
            code = view.code[0, :, ys, columns].T
            logits = network.refinement(code, window_parts(view.laterals, ys, columns))[:, 0]
        masks_of_views.append(logits.flip(2) if mirrored else logits)
    sharp: NDArray[np.float32] = torch.stack(masks_of_views).float().mean(0).cpu().numpy()
    return sharp


def _place(
    logits: NDArray[np.float32],
    places: NDArray[np.int64],
    scale: tuple[float, float],
    size: tuple[int, ...],
    threshold: float,
) -> list[Rle]:
    """Resize mask logits bilinearly to their windows in the photograph, and threshold them."""
    height, width = size
    # Column-major, as in run-length encodings: they are encoded without another copy.
    drawn = np.zeros((len(logits), width, height), bool)
    for of_window, mask, (grid_y, grid_x) in zip(logits, drawn, places, strict=True):
        top, bottom, box_top, box_bottom = _span(int(grid_y), scale[0], height)
        left, right, box_left, box_right = _span(int(grid_x), scale[1], width)
        resized = Image.fromarray(of_window).resize(
            (right - left, bottom - top),
            Image.Resampling.BILINEAR,
            (box_left, box_top, box_right, box_bottom),
        )
        mask[left:right, top:bottom] = (np.asarray(resized) >= threshold).T
    return masks.encode(drawn.transpose(0, 2, 1))


def _span(grid: int, scale: float, length: int) -> tuple[int, int, float, float]:
    """Return the photograph's pixels inside a window, along one axis.

    Returns
    -------
    The first pixel and the one after the last, and their edges in pixels of the window.
    """
    start = grid * STRIDE - WINDOW / 2
    first = max(0, math.ceil(start / scale))
    last = min(length, math.floor((start + WINDOW) / scale))
    # Rounding errors could move the box over the edge, which Pillow refuses.
    return first, last, max(0.0, first * scale - start), min(WINDOW, last * scale - start)
