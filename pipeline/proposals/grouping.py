"""Object proposals without learning: superpixels, merged by several rules, ranked by fixed cues.

The photograph is scaled down and segmented into superpixels (Felzenszwalb and Huttenlocher,
IJCV 2004) in several color spaces and at several scales. Each of these partitions is merged by
several rules, two regions at a time, until one region is left (Selective Search: Uijlings et al.,
IJCV 2013, section 3). Pairs of large neighboring regions are proposed too (MCG: Arbelaez et al.,
CVPR 2014, section 5). All regions are ranked by fixed cues and diversified as in MCG: a region
that is similar to a better one loses score in proportion to their IoU.

All large sums are sums of integers that float32 represents exactly. They do not depend on the
order in which a processor adds them up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, PositiveFloat
from scipy import ndimage
from skimage.color import rgb2hsv, rgb2lab
from skimage.feature import local_binary_pattern
from skimage.segmentation import felzenszwalb

from pipeline.artifacts.proposals import Proposals
from pipeline.common import masks
from pipeline.common.images import read_image
from pipeline.common.masks import Rle
from pipeline.common.parameters import Parameters


class GroupingParameters(Parameters):
    """Settings of the method `grouping`: how superpixels are made and merged."""

    renamed: ClassVar[Mapping[str, str]] = {
        "side": "image_size",
        "colour_spaces": "color_spaces",
        "superpixel": "min_superpixel_area",
        "smallest": "min_area",
        "joined": "paired_regions",
    }

    image_size: int = Field(
        ge=32, description="longer side, in pixels, to which photographs are scaled down"
    )
    color_spaces: tuple[Literal["rgb", "hsv", "lab"], ...] = Field(
        min_length=1, description="color spaces in which superpixels are computed at every scale"
    )
    scales: tuple[PositiveFloat, ...] = Field(
        min_length=1, description="scales of scikit-image's felzenszwalb; larger: fewer superpixels"
    )
    min_superpixel_area: int = Field(ge=1, description="smallest area of a superpixel, in pixels")
    min_area: float = Field(
        ge=0, lt=1, description="smallest area of a proposal, as a fraction of the image"
    )
    paired_regions: int = Field(
        ge=1, description="number of last merged regions whose neighboring pairs are proposed too"
    )


_COLOR_BINS = 20
_EDGE_LEVELS = 100
_TEXTURE_NEIGHBORS = 8
_SMOOTHING = 0.8  # standard deviation of the Gaussian blur before segmentation, pixels
_COMMON_AREA = 0.15  # of objects, as a fraction of the image
_AREA_WEIGHT = 0.2
_DIVERSITY = 1.0
_MASKS_PER_BATCH = 64

Floats = NDArray[np.float32]
Regions = NDArray[np.bool_]  # sets of superpixels: (regions, superpixels)


@dataclass(frozen=True)
class _Rule:
    """Weights of the terms of the similarity of two neighbors (Selective Search, Eqs. 2 to 6).

    `border` weights how weak the edge between the two regions is. Selective Search has no such
    term.
    """

    color: float = 0.0
    texture: float = 0.0
    area: float = 1.0
    fill: float = 1.0
    border: float = 0.0


_RULES = (
    _Rule(color=1.0, texture=1.0),
    _Rule(texture=1.0),
    _Rule(color=1.0, texture=1.0, border=2.0),
)


@dataclass(frozen=True)
class _Partition:
    """The n superpixels of an image and their measurements, in pixels.

    Attributes
    ----------
    label : int64 (height, width), the superpixel of each pixel, 0 to n - 1.
    area : float32 (n,).
    box : float32 (n, 4), top, left, bottom, right.
    color, texture : float32 (n, bins), histograms.
    border : float32 (n, n), length of the border that two superpixels share.
    edge : float32 (n, n), sum of the edge strength along that border.
    rim : float32 (n,), number of pixels at the edge of the image.
    """

    label: NDArray[np.int64]
    area: Floats
    box: Floats
    color: Floats
    texture: Floats
    border: Floats
    edge: Floats
    rim: Floats


@dataclass(frozen=True)
class Grouper:
    """Computes the proposals of photographs by grouping."""

    parameters: GroupingParameters
    count: int

    def __call__(self, photograph: Path) -> Proposals:
        """Propose masks for a photograph, best first."""
        return propose(read_image(photograph), self.parameters, self.count)


def propose(image: NDArray[np.uint8], parameters: GroupingParameters, count: int) -> Proposals:
    """Group the pixels of a photograph into object proposals.

    Parameters
    ----------
    image : uint8 (height, width, 3), of any size.
    count : maximum number of proposals.

    Returns
    -------
    At most `count` masks at the size of the image, by descending score, 0 to 1. An image with a
    single superpixel has no proposal.
    """
    small = _scaled_down(image, parameters.image_size)
    lab = _lab(small)
    edges, texture = _edges(lab), _texture(lab)
    labels, regions, scores = [], [], []
    for space, scale in product(parameters.color_spaces, parameters.scales):
        partition = _partition(_SPACES[space](small), scale, parameters, edges, texture)
        found = _grouped(partition, parameters.paired_regions)
        found = found[found @ partition.area >= parameters.min_area * edges.size]
        labels.append(partition.label)
        regions.append(found)
        scores.append(_objectness(partition, found))
    cells, members, area = _common_cells(labels, regions)
    order, score = _diversified(members, area, np.concatenate(scores), count)
    return Proposals(_to_masks(members[order], cells, image.shape[:2]), score)


def _scaled_down(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = min(1.0, side / max(height, width))
    shape = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR))


def _lab(image: NDArray[np.uint8]) -> Floats:
    """Convert to CIELAB: lightness from 0 to 1, the other two channels centered at 0.5."""
    lab = rgb2lab(image) / (100, 255, 255) + (0, 0.5, 0.5)
    return np.asarray(lab, np.float32)


_SPACES: dict[str, Callable[[NDArray[np.uint8]], Floats]] = {
    "rgb": lambda image: np.asarray(image / 255, np.float32),
    "hsv": lambda image: np.asarray(rgb2hsv(image), np.float32),
    "lab": _lab,
}


def _edges(lab: Floats) -> NDArray[np.int64]:
    """Compute the edge strength at every pixel, as an integer from 0 to `_EDGE_LEVELS`."""
    slopes = [ndimage.gaussian_gradient_magnitude(channel, 1) for channel in np.moveaxis(lab, 2, 0)]
    strength = np.sqrt(sum(np.square(slope) for slope in slopes))
    strongest = max(float(np.percentile(strength, 97)), 1e-6)
    return np.asarray(np.rint(np.minimum(strength / strongest, 1) * _EDGE_LEVELS), np.int64)


def _texture(lab: Floats) -> NDArray[np.int64]:
    """Compute the local binary pattern at every pixel, one of `_TEXTURE_NEIGHBORS` + 2."""
    lightness = np.rint(lab[..., 0] * 255).astype(np.uint8)
    patterns = local_binary_pattern(lightness, _TEXTURE_NEIGHBORS, 1, "uniform")
    return np.asarray(patterns, np.int64)


def _partition(
    colors: Floats,
    scale: float,
    parameters: GroupingParameters,
    edges: NDArray[np.int64],
    texture: NDArray[np.int64],
) -> _Partition:
    """Segment an image (height, width, 3) in 0..1 into superpixels and measure them."""
    label = felzenszwalb(
        colors,
        scale=scale,
        sigma=_SMOOTHING,
        min_size=parameters.min_superpixel_area,
        channel_axis=2,
    ).astype(np.int64)
    n = int(label.max()) + 1
    lowest, highest = colors.min(axis=(0, 1)), colors.max(axis=(0, 1))
    bins = (colors - lowest) / (highest - lowest + 1e-6) * _COLOR_BINS
    whole_bins = np.moveaxis(bins.astype(np.int64), 2, 0)
    rim = np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]])
    border, edge = _borders(label, edges, n)
    spans = ndimage.find_objects(label + 1)
    return _Partition(
        label=label,
        area=np.bincount(label.ravel(), minlength=n).astype(np.float32),
        box=np.array([(y.start, x.start, y.stop, x.stop) for y, x in spans], np.float32),
        color=np.hstack([_histogram(label, channel, n, _COLOR_BINS) for channel in whole_bins]),
        texture=_histogram(label, texture, n, _TEXTURE_NEIGHBORS + 2),
        border=border,
        edge=edge,
        rim=np.bincount(rim, minlength=n).astype(np.float32),
    )


def _histogram(label: NDArray[np.int64], value: NDArray[np.int64], n: int, bins: int) -> Floats:
    counts = np.bincount((label * bins + value).ravel(), minlength=n * bins)
    return counts.reshape(n, bins).astype(np.float32)


def _borders(label: NDArray[np.int64], edges: NDArray[np.int64], n: int) -> tuple[Floats, Floats]:
    """Measure the border between each two superpixels: its length and its summed edge strength."""
    length, strength = np.zeros((2, n, n), np.float32)
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        apart = label[first] != label[second]
        pairs = label[first][apart], label[second][apart]
        np.add.at(length, pairs, 1)
        np.add.at(strength, pairs, np.maximum(edges[first], edges[second])[apart])
    return length + length.T, strength + strength.T


def _grouped(partition: _Partition, paired_regions: int) -> Regions:
    """Return superpixels, merged regions and pairs of neighbors; the whole image is left out."""
    superpixels = np.eye(len(partition.area), dtype=bool)
    found = [superpixels]
    for rule in _RULES:
        merged = _merged(partition, rule)
        last = np.concatenate([superpixels, merged])[-paired_regions:]
        found += [merged, _paired(partition, last)]
    regions = np.unique(np.concatenate(found), axis=0)
    return regions[~regions.all(axis=1)]


def _merged(partition: _Partition, rule: _Rule) -> Regions:
    """Merge the two most similar neighbors until one region is left; give all in this order."""
    n = len(partition.area)
    members = np.eye(n, dtype=bool)
    now = _copied(partition)
    similarity = np.full((n, n), -np.inf)
    for i in range(n):
        _compare(now, i, rule, similarity)
    merged = []
    for _ in range(n - 1):
        i, j = divmod(int(similarity.argmax()), n)
        _absorb(now, i, j)
        similarity[[i, j]] = similarity[:, [i, j]] = -np.inf
        _compare(now, i, rule, similarity)
        members[i] |= members[j]
        merged.append(members[i].copy())
    return np.array(merged, bool).reshape(-1, n)


def _copied(partition: _Partition) -> _Partition:
    return _Partition(**{name: values.copy() for name, values in vars(partition).items()})


def _absorb(now: _Partition, i: int, j: int) -> None:
    """Merge region j into region i."""
    for counts in (now.area, now.color, now.texture, now.rim):
        counts[i] += counts[j]
    now.box[i, :2] = np.minimum(now.box[i, :2], now.box[j, :2])
    now.box[i, 2:] = np.maximum(now.box[i, 2:], now.box[j, 2:])
    for shared in (now.border, now.edge):
        shared[i] += shared[j]
        shared[i, i] = 0
        shared[:, i] = shared[i]
        shared[j] = shared[:, j] = 0


def _compare(now: _Partition, i: int, rule: _Rule, similarity: NDArray[np.float64]) -> None:
    """Compute the similarity of region i to each of its neighbors, in place."""
    others = np.flatnonzero(now.border[i])
    whole = now.label.size
    together = now.area[i] + now.area[others]
    top_left = np.minimum(now.box[i, :2], now.box[others, :2])
    bottom_right = np.maximum(now.box[i, 2:], now.box[others, 2:])
    around = np.prod(bottom_right - top_left, axis=1)
    edge = now.edge[i, others] / (now.border[i, others] * _EDGE_LEVELS)
    alike = (
        rule.color * _intersection(now.color[[i]], now.color[others])
        + rule.texture * _intersection(now.texture[[i]], now.texture[others])
        + rule.area * (1 - together / whole)
        + rule.fill * (1 - (around - together) / whole)
        + rule.border * (1 - edge)
    )
    similarity[i, others] = similarity[others, i] = alike


def _intersection(first: Floats, second: Floats) -> Floats:
    """Compute the histogram intersection of rows, 0 to 1; 0 where a histogram is empty.

    The concatenated histograms of three channels count as one histogram.
    """
    shares = [rows / np.maximum(rows.sum(axis=1, keepdims=True), 1) for rows in (first, second)]
    return np.asarray(np.minimum(*shares).sum(axis=1))


def _paired(partition: _Partition, regions: Regions) -> Regions:
    """Merge each two of the regions that touch and do not overlap."""
    sets = regions.astype(np.float32)
    touching = sets @ (partition.border > 0).astype(np.float32) @ sets.T > 0
    apart = sets @ sets.T == 0
    first, second = np.nonzero(np.triu(touching & apart))
    return regions[first] | regions[second]


def _objectness(partition: _Partition, regions: Regions) -> Floats:
    """Score how much each region looks like an object, 0 to 1, by fixed cues.

    An object differs in color from its surroundings, has stronger edges along its contour than
    inside, is compact, and is rarely cut off by the image's edge or larger than a third of it.
    """
    sets, outside = regions.astype(np.float32), (~regions).astype(np.float32)
    borders, edges = sets @ partition.border, sets @ partition.edge
    contour = (borders * outside).sum(axis=1)
    contour_edge = _mean_edge((edges * outside).sum(axis=1), contour)
    inner_edge = _mean_edge((edges * sets).sum(axis=1), (borders * sets).sum(axis=1))
    surround = ((borders > 0) & ~regions).astype(np.float32)
    contrast = 1 - _intersection(sets @ partition.color, surround @ partition.color)
    rim = sets @ partition.rim
    area = sets @ partition.area
    perimeter = contour + rim
    compactness = np.sqrt(4 * np.pi * area) / perimeter
    cut_off = rim / perimeter
    octaves = np.log2(area / partition.label.size / _COMMON_AREA)
    evidence = (
        contrast
        + contour_edge
        - inner_edge
        + np.minimum(compactness, 1)
        - cut_off
        - _AREA_WEIGHT * np.abs(octaves)
    )
    return np.asarray(1 / (1 + np.exp(-evidence)), np.float32)


def _mean_edge(strength: Floats, length: Floats) -> Floats:
    return np.asarray(strength / (np.maximum(length, 1) * _EDGE_LEVELS))


def _common_cells(
    labels: Sequence[NDArray[np.int64]], regions: Sequence[Regions]
) -> tuple[NDArray[np.int64], Regions, Floats]:
    """Express the regions of several partitions as sets of the cells of their common refinement.

    Returns
    -------
    cells : int64 (height, width), the cell of each pixel.
    members : bool (regions, cells), the cells of each region.
    area : float32 (cells,), in pixels.
    """
    stacked = np.stack([label.ravel() for label in labels])
    first, cells, area = _unique_columns(stacked)
    members = [of_one[:, label[first]] for of_one, label in zip(regions, stacked, strict=True)]
    return cells.reshape(labels[0].shape), np.concatenate(members), area.astype(np.float32)


def _unique_columns(stacked: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Return index, inverse and counts of the distinct columns, as `numpy.unique` does."""
    code = np.zeros(stacked.shape[1], np.int64)
    for row in stacked:
        # Renumbered after each row, so that the codes do not overflow.
        code = np.unique(code * (row.max() + 1) + row, return_inverse=True)[1]
    return np.unique(code, return_index=True, return_inverse=True, return_counts=True)[1:]


def _diversified(
    members: Regions, area: Floats, score: Floats, count: int
) -> tuple[NDArray[np.int64], Floats]:
    """Select the `count` best regions; a region similar to a selected one loses score.

    Returns
    -------
    Indices int64 (k,), and float32 (k,) scores, descending. Duplicates of a selected region are
    left out.
    """
    sets = members.astype(np.float32)
    intersection = (sets * area) @ sets.T
    size = np.diag(intersection)
    remaining = score.astype(np.float64)
    nearest = np.zeros(len(remaining))
    order, scores = [], []
    for _ in range(min(count, len(remaining))):
        best = int(remaining.argmax())
        if remaining[best] <= 0:
            break
        order.append(best)
        scores.append(remaining[best])
        iou = intersection[best] / (size + size[best] - intersection[best])
        nearest = np.maximum(nearest, iou)
        remaining = np.where(remaining > 0, score * (1 - nearest) ** _DIVERSITY, 0)
    return np.array(order, np.int64), np.array(scores, np.float32)


def _to_masks(members: Regions, cells: NDArray[np.int64], size: tuple[int, ...]) -> list[Rle]:
    """Scale regions to masks of the photograph's `size` (height, width), with smooth outlines."""
    height, width = size
    rles: list[Rle] = []
    for start in range(0, len(members), _MASKS_PER_BATCH):
        some = members[start : start + _MASKS_PER_BATCH]
        large = [
            Image.fromarray(mask[cells] * np.uint8(255)).resize(
                (width, height), Image.Resampling.BILINEAR
            )
            for mask in some
        ]
        rles += masks.encode(np.stack([np.asarray(mask) >= 128 for mask in large]))
    return rles
