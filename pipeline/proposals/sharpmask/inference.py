"""Object proposals of photographs by a trained SharpMask."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from pipeline.common.images import compute_by_size, read_image
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
# Pixels of masks that a GPU resizes at once, which bounds its memory: 256 MB.
_PIXELS_PER_BATCH = 2**26


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
        (proposals,) = self.together([photograph])
        return proposals

    def together(self, photographs: Sequence[Path]) -> list[Proposals]:
        """Propose masks for each of some photographs, best first."""
        images = [read_image(photograph) for photograph in photographs]
        return propose_all(_load(self.weights), images, self.parameters, self.count)


@cache
def _load(weights: Path) -> SharpMask:
    network = load_network(weights, SharpMaskDescription, partial(SharpMask, weights="none"))
    return runtime.channels_last(network, runtime.device()).eval()


def propose_windows(
    network: SharpMask, image: NDArray[np.uint8], parameters: PyramidParameters, count: int
) -> Proposals:
    """Propose masks for an image, uint8 (h, w, 3); see `propose_all`."""
    (proposals,) = propose_all(network, [image], parameters, count)
    return proposals


def propose_all(
    network: SharpMask,
    images: Sequence[NDArray[np.uint8]],
    parameters: PyramidParameters,
    count: int,
) -> list[Proposals]:
    """Propose the masks of the best windows of all scales (SharpMask, section 5).

    Similar masks are suppressed if `parameters.nms_threshold` is below 1. The windows of images
    of equal size are scored together: those of one depend on the others up to rounding only.

    Parameters
    ----------
    images : uint8 (h_i, w_i, 3), of any sizes.
    count : maximum number of proposals per image.

    Returns
    -------
    For each image at most `count` non-empty masks at its size, by descending score.
    """

    def compute(numbers: list[int]) -> Iterator[Proposals]:
        some = [images[number] for number in numbers]
        scanned = [_scan(network, some, scale, parameters.flip) for scale in parameters.scales()]
        for levels in zip(*scanned, strict=True):
            yield _best_windows(network, levels, some[0].shape[:2], parameters, count)

    return compute_by_size([image.shape for image in images], compute)


def _best_windows(
    network: SharpMask,
    levels: Sequence["_Level"],
    size: tuple[int, ...],
    parameters: PyramidParameters,
    count: int,
) -> Proposals:
    """Compute the masks of the best windows of an image of a size (height, width)."""
    scores = np.concatenate([level.scores.ravel() for level in levels])
    # Stable, so that equal scores keep the order of scales and positions.
    ranked = np.argsort(-scores, kind="stable")
    rles: list[Rle] = []
    chosen, seen = ranked[:0], 0
    # Empty and suppressed masks are replaced by those of the windows next in rank.
    while len(rles) < count and seen < len(ranked):
        some = ranked[seen : seen + max(count - len(rles), _WINDOWS_PER_BATCH)]
        drawn = _draw_windows(network, levels, some, size, parameters.mask_threshold)
        kept = np.flatnonzero(masks.area(drawn))
        if parameters.nms_threshold < 1:
            kept = kept[masks.nms([drawn[i] for i in kept], parameters.nms_threshold, rles)]
        rles += [drawn[i] for i in kept]
        chosen = np.append(chosen, some[kept])
        seen += len(some)
    return Proposals(rles[:count], scores[chosen[:count]])


@dataclass(frozen=True)
class _View:
    """The network's output for n images at one scale, or for their mirror images.

    Attributes
    ----------
    code : (n, channels, y, x), the code of each window.
    laterals : lateral maps, strides 16 to 2.
    """

    code: Tensor
    laterals: list[Tensor]

    def of_image(self, number: int) -> Self:
        """Return the view of one image."""
        one = slice(number, number + 1)
        return replace(self, code=self.code[one], laterals=[of[one] for of in self.laterals])


@dataclass(frozen=True)
class _Level:
    """The network's output for one level of the pyramid of an image.

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
def _scan(
    network: SharpMask, images: Sequence[NDArray[np.uint8]], scale: float, flip: bool
) -> list[_Level]:
    """Encode and score all windows of images of one size.

    The centers of the windows cover an image from edge to edge.
    """
    height, width = images[0].shape[:2]
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    padded = np.full((len(images), _padded(h), _padded(w), 3), OUTSIDE, np.uint8)
    for place, image in zip(padded, images, strict=True):
        pixels = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
        place[PATCH // 2 : PATCH // 2 + h, PATCH // 2 : PATCH // 2 + w] = pixels
    device = runtime.device()
    batch = torch.from_numpy(padded).to(device).permute(0, 3, 1, 2) / 255
    scores, views = [], []
    with runtime.autocast(device):
        for mirrored in (False, True) if flip else (False,):
            features, code = network.deepmask(batch.flip(3) if mirrored else batch)
            logits = network.deepmask.scores(code).float()
            scores.append(logits.flip(2) if mirrored else logits)
            views.append(_View(code, network.refinement.lateral(features)))
    probabilities = torch.sigmoid(torch.stack(scores).mean(0)).cpu().numpy()
    return [
        _Level((h / height, w / width), of_image, [view.of_image(number) for view in views])
        for number, of_image in enumerate(probabilities)
    ]


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
        place = _place_on_gpu if runtime.on_gpu(logits.device) else _place
        rles += place(logits, some, level.scale, size, math.log(threshold / (1 - threshold)))
    return rles


@torch.inference_mode()
def _refine(network: SharpMask, level: _Level, places: NDArray[np.int64]) -> Tensor:
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
    return torch.stack(masks_of_views).float().mean(0)


def _place(
    logits: Tensor,
    places: NDArray[np.int64],
    scale: tuple[float, float],
    size: tuple[int, ...],
    threshold: float,
) -> list[Rle]:
    """Resize mask logits bilinearly to their windows in the photograph, and threshold them."""
    height, width = size
    # Column-major, as in run-length encodings: they are encoded without another copy.
    drawn = np.zeros((len(logits), width, height), bool)
    for of_window, mask, (grid_y, grid_x) in zip(logits.numpy(), drawn, places, strict=True):
        top, bottom, box_top, box_bottom = _span(int(grid_y), scale[0], height)
        left, right, box_left, box_right = _span(int(grid_x), scale[1], width)
        resized = Image.fromarray(of_window).resize(
            (right - left, bottom - top),
            Image.Resampling.BILINEAR,
            (box_left, box_top, box_right, box_bottom),
        )
        mask[left:right, top:bottom] = (np.asarray(resized) >= threshold).T
    return masks.encode(drawn.transpose(0, 2, 1))


@runtime.without_tf32()
@torch.inference_mode()
def _place_on_gpu(
    logits: Tensor,
    places: NDArray[np.int64],
    scale: tuple[float, float],
    size: tuple[int, ...],
    threshold: float,
) -> list[Rle]:
    """Do what `_place` does, where resizing along an axis is a matrix product."""
    rles: list[Rle] = []
    count = max(1, _PIXELS_PER_BATCH // (size[0] * size[1]))
    for start in range(0, len(logits), count):
        some = slice(start, start + count)
        (down, in_rows), (across, in_columns) = (
            _resizing(places[some, axis], scale[axis], size[axis], logits.device) for axis in (0, 1)
        )
        # Column-major, as in `_place`.
        resized = across @ logits[some].mT @ down.mT
        inside = (resized >= threshold) & in_columns[:, :, None] & in_rows[:, None]
        rles += masks.encode(inside.cpu().numpy().transpose(0, 2, 1))
    return rles


def _resizing(
    grid: NDArray[np.int64], scale: float, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Compute how windows are resized bilinearly to the photograph, along one axis.

    A pixel larger than those of the window is the mean of several, as Pillow computes it.

    Parameters
    ----------
    grid : int64 (n,), positions of the windows in the grid.
    length : of the photograph, in pixels.

    Returns
    -------
    Weights of the pixels of each window, float32 (n, length, 160), and which pixels of the
    photograph lie inside it, bool (n, length).
    """
    start = grid[:, None] * STRIDE - WINDOW / 2
    pixels = np.arange(length)
    inside = (pixels >= np.ceil(start / scale)) & (pixels < np.floor((start + WINDOW) / scale))
    centers = ((pixels + 0.5) * scale - start).astype(np.float32)
    cells = torch.arange(WINDOW, device=device) + 0.5
    away = (torch.from_numpy(centers).to(device)[..., None] - cells).abs()
    weights = (1 - away / max(scale, 1)).clamp(min=0)
    total = weights.sum(2, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return weights / total, torch.from_numpy(inside).to(device)


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
