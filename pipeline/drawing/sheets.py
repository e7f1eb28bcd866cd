"""Sheets of pictures: the proposals, peaks, draws or instances of one photograph."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.draws import Draws
from pipeline.artifacts.instances import Instances
from pipeline.artifacts.peaks import Peaks, Points
from pipeline.artifacts.proposals import Proposals
from pipeline.common import masks
from pipeline.common.masks import Rle
from pipeline.drawing import canvas as drawing
from pipeline.drawing.canvas import Color, Pixels

SIDE = 560  # minimum longer side of a picture of the sheet, pixels
_COLUMNS = 3


def proposal_sheet(pixels: Pixels, proposals: Proposals, count: int) -> Pixels:
    """Draw the photograph, followed by each of the best `count` proposals."""
    best = masks.decode(proposals.masks[:count], *pixels.shape[:2])
    large = drawing.enlarge(pixels, SIDE)
    tiles = [drawing.caption(large, f"the best {len(best)} of {len(proposals.masks)} proposals")]
    for number, mask in enumerate(best):
        text = f"{number + 1}: objectness {proposals.score[number]:.3f}"
        tiles.append(drawing.caption(_alone(large, mask, drawing.colors(1)[0]), text))
    return drawing.grid(tiles, _COLUMNS)


def peak_sheet(pixels: Pixels, peaks: Peaks, classes: Sequence[str]) -> Pixels:
    """Draw the photograph with all peaks, followed by the response map of each peak."""
    large = drawing.enlarge(pixels, SIDE)
    points, tints = _scaled_points(peaks, pixels, large), drawing.colors(len(classes))
    marked = mark_peaks(large, pixels, peaks, classes)
    tiles = [drawing.caption(marked, f"{len(points)} peaks")]
    for point, label, value, response in zip(
        points, peaks.label, peaks.value, peaks.response, strict=True
    ):
        picture = drawing.draw_peaks(drawing.heat(large, response), point[None], [tints[label]])
        tiles.append(drawing.caption(picture, f"{classes[label]}: response, height {value:.1f}"))
    return drawing.grid(tiles, _COLUMNS)


def draw_sheet(
    pixels: Pixels, peaks: Points, proposals: Proposals, draws: Draws, classes: Sequence[str]
) -> Pixels:
    """Draw the photograph with all peaks, followed by a row for each peak inside a proposal.

    A row shows the probability of each pixel to be in the drawn mask, and the mask that was drawn
    for the first epoch.
    """
    large = drawing.enlarge(pixels, SIDE)
    points, tints = _scaled_points(peaks, pixels, large), drawing.colors(len(classes))
    covered = masks.contains(proposals.masks, np.stack([peaks.y, peaks.x], 1)).any(axis=0)
    # Two columns, so that each peak has one row.
    marked = mark_peaks(large, pixels, peaks, classes)
    tiles = [large, drawing.caption(marked, f"{len(points)} peaks")]
    for row, point in enumerate(points[covered]):
        label, numbers, number = draws.label[row], draws.candidate[row], draws.draw[row, 0]
        candidates = masks.decode([proposals.masks[k] for k in numbers], *pixels.shape[:2])
        chance = draws.probability[row]
        likely = np.tensordot(chance, candidates.astype(np.float32), 1)
        mark = {"points": point[None], "tints": [tints[label]]}
        drawn = candidates[np.searchsorted(numbers, number)]
        probability = float(chance[np.searchsorted(numbers, number)])
        heat = drawing.draw_peaks(drawing.heat(large, likely), **mark)
        mask = drawing.draw_peaks(_alone(large, drawn, tints[label]), **mark)
        what = f"{classes[label]}: objectness {proposals.score[number]:.3f}"
        tiles.append(drawing.caption(heat, f"{classes[label]}: {len(numbers)} candidates"))
        tiles.append(drawing.caption(mask, f"{what}, drawn with probability {probability:.3f}"))
    return drawing.grid(tiles, 2)


def instance_sheet(
    pixels: Pixels, instances: Instances, classes: Sequence[str], min_score: float
) -> Pixels:
    """Draw the photograph next to its instances with a score of at least `min_score`."""
    chosen = confident(instances, min_score)
    large = drawing.enlarge(pixels, 2 * SIDE)
    picture = mark_instances(large, chosen.masks, with_scores(chosen, classes), height=22)
    text = f"{len(chosen.masks)} of {len(instances.masks)} instances: score at least {min_score:g}"
    return drawing.grid([large, drawing.caption(picture, text, height=22)], 2)


def confident(
    instances: Instances, min_score: float, max_instances: int | None = None
) -> Instances:
    """Keep instances with a score of at least `min_score`: the best `max_instances`, or all."""
    return instances.take(np.flatnonzero(instances.score >= min_score)[:max_instances])


def with_scores(instances: Instances, classes: Sequence[str]) -> list[str]:
    """Return the class and score of each instance as text."""
    named = zip(instances.label, instances.score, strict=True)
    return [f"{classes[label]} {score:.2f}" for label, score in named]


def mark_instances(large: Pixels, rles: Sequence[Rle], names: Sequence[str], height: int) -> Pixels:
    """Draw masks on their photograph, scaled to any size, each with a color and its name.

    Large masks are drawn first, so that they hide no small ones. `height` is the text height in
    pixels.
    """
    if not rles:
        return large
    order = masks.largest_first(rles)
    shapes = masks.decode([rles[k] for k in order], *rles[0]["size"])
    tints = drawing.colors(len(shapes))
    picture = drawing.overlay(large, shapes, tints)
    picture = drawing.outline(picture, shapes, tints, width=max(2, height // 8))
    for number, shape, color in zip(order, shapes, tints, strict=True):
        scale = large.shape[0] / shape.shape[0]
        top, left = (np.argwhere(shape).min(axis=0) * scale).astype(int)
        picture = drawing.draw_name(picture, (top, left), names[number], color, height)
    return picture


def mark_peaks(
    large: Pixels, pixels: Pixels, peaks: Points, classes: Sequence[str], height: int = 16
) -> Pixels:
    """Mark peaks on their photograph, scaled to any size, with colors and names."""
    tints = [drawing.colors(len(classes))[label] for label in peaks.label]
    points = _scaled_points(peaks, pixels, large)
    picture = drawing.draw_peaks(large, points, tints)
    for (y, x), label, color in zip(points, peaks.label, tints, strict=True):
        picture = drawing.draw_name(picture, (y + 12, x + 8), classes[label], color, height)
    return picture


def _alone(pixels: Pixels, mask: NDArray[np.bool_], color: Color) -> Pixels:
    return drawing.outline(drawing.spotlight(pixels, mask), mask[None], [color])


def _scaled_points(peaks: Points, pixels: Pixels, large: Pixels) -> NDArray[np.int64]:
    """Return the peaks (y, x) in pixels of the enlarged photograph."""
    scale = large.shape[0] / pixels.shape[0]
    return np.asarray((np.stack([peaks.y, peaks.x], 1) + 0.5) * scale, np.int64)
