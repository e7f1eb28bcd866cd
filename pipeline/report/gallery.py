"""The photographs of the report: their choice, their size, and the layers drawn over them."""

import base64
import io
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.split import Photograph
from pipeline.common import masks
from pipeline.common.masks import Rle
from pipeline.common.progress import track
from pipeline.evaluation.measures import best_overlaps
from pipeline.report.failures import pair
from pipeline.report.results import PseudoMaskSources, SplitResults

_QUALITY = 70  # of WebP
_MAX_PREDICTIONS = 20  # drawn on a picture


@dataclass(frozen=True)
class Shape:
    """A mask as SVG path data, the name of its class, and its score if it has one."""

    path: str
    name: str
    score: float | None


@dataclass(frozen=True)
class Mark:
    """A peak and the name of its class, in pixels of the picture."""

    x: float
    y: float
    name: str


@dataclass(frozen=True)
class Picture:
    """A small photograph as a data URL, and what is drawn over it: layers of shapes, and peaks.

    `overlap` is the mean best overlap (IoU), 0 to 1, with the true instances of the class that
    the picture is shown for, or None without true masks.
    """

    photograph: Photograph
    address: str
    width: int
    height: int
    layers: Mapping[str, Sequence[Shape]]
    peaks: Sequence[Mark]
    overlap: float | None

    def found(self) -> list[tuple[str, int, float | None]]:
        """Return the classes of the refined predictions with count and best score, best first."""
        names = [shape.name for shape in self.layers["refined"]]
        scores = {shape.name: shape.score for shape in reversed(self.layers["refined"])}
        return [(name, names.count(name), scores[name]) for name in dict.fromkeys(names)]


Gallery = Mapping[str, Mapping[str, Sequence[Picture]]]
"""Pictures by the class that they are shown for, and by the reason of their choice."""


@dataclass(frozen=True)
class Painter:
    """Makes pictures of the photographs of a split.

    Attributes
    ----------
    results : the split and its predictions.
    sources : where the pseudo masks come from; None if the split has none.
    image_size : longer side of a picture, in pixels.
    min_relative_score : minimum score of a drawn prediction, as a fraction of the highest score
        in its image. The best twenty are drawn.
    """

    results: SplitResults
    sources: PseudoMaskSources | None
    image_size: int
    min_relative_score: float

    def gallery(self, images: int, seed: int, what: str) -> Gallery:
        """Make pictures of the best, the worst and random images, `images` each, per class."""
        photographs = {photograph.id: photograph for photograph in self.results.split.photographs}
        overlaps = self._overlaps()
        pictures = {}
        for name in track(self.results.split.classes, len(self.results.split.classes), what):
            tagged = [image for image, p in photographs.items() if name in p.tags]
            chosen = choose(overlaps[name], tagged, images, seed)
            pictures[name] = {
                why: [self.picture(photographs[i], overlaps[name].get(i)) for i in ids]
                for why, ids in chosen.items()
            }
        return pictures

    def picture(self, photograph: Photograph, overlap: float | None) -> Picture:
        """Make the picture of a photograph."""
        address, width, height = shrink(self.results.split.image(photograph), self.image_size)
        names = self.results.split.classes
        layers = {
            layer: [
                Shape(outline(rle, width / photograph.width), names[label], score)
                for rle, label, score in instances
            ]
            for layer, instances in self._layers(photograph.id)
        }
        peaks = self._peaks(photograph, width, height)
        return Picture(photograph, address, width, height, layers, peaks, overlap)

    def drawn(self, instances: Instances) -> Instances:
        """Select the predictions of an image that are drawn."""
        min_score = self.min_relative_score * instances.score.max(initial=0.0)
        rows = np.flatnonzero(instances.score >= min_score)[:_MAX_PREDICTIONS]
        return instances.take(rows)

    def _overlaps(self) -> dict[str, dict[str, float]]:
        """Compute the mean best overlap of the refined predictions, by class and image."""
        overlaps: dict[str, dict[str, float]] = defaultdict(dict)
        for image in self.results.truth.images:
            judged = pair(image, self.drawn(self.results.refined.instances(image.id)))
            best = best_overlaps(judged)
            for label in np.unique(judged.true.label):
                name = self.results.split.classes[label]
                overlaps[name][image.id] = float(best[judged.true.label == label].mean())
        return overlaps

    def _layers(self, image_id: str) -> Iterator[tuple[str, list[tuple[Rle, int, float | None]]]]:
        """Yield the instances of each layer, the lowest layer first."""
        stores = {
            "predictions": self.results.predictions,
            "refined": self.results.refined,
        }
        for layer, store in stores.items():
            found = self.drawn(store.instances(image_id))
            scores = [float(score) for score in found.score]
            yield layer, list(zip(found.masks, found.label, scores, strict=True))
        if self.sources:
            proposals = self.sources.proposals.proposals(image_id)
            pseudo = self.sources.draws.draws(image_id).instances(proposals, epoch=0)
            yield "pseudo", [(m, k, None) for m, k in zip(pseudo.masks, pseudo.label, strict=True)]
        if image := self.results.true_images.get(image_id):
            true = zip(image.masks(), image.labels(), strict=True)
            yield "truth", [(m, k, None) for m, k in true]

    def _peaks(self, photograph: Photograph, width: int, height: int) -> list[Mark]:
        if not self.sources:
            return []
        peaks = self.sources.peaks.points(photograph.id)
        x = (peaks.x + 0.5) * width / photograph.width
        y = (peaks.y + 0.5) * height / photograph.height
        names = [self.results.split.classes[label] for label in peaks.label]
        return [Mark(*row) for row in zip(x.tolist(), y.tolist(), names, strict=True)]


def choose(
    overlaps: Mapping[str, float], tagged: Sequence[str], count: int, seed: int
) -> dict[str, list[str]]:
    """Choose the `count` best and worst images of a class, and random others.

    No image is chosen twice.

    Parameters
    ----------
    overlaps : mean best overlap of the images with true masks of the class, by id.
    tagged : ids of the images tagged with the class.
    """
    ranked = sorted(overlaps, key=lambda image: (-overlaps[image], image))
    best, worst = ranked[:count], ranked[count:][-count:][::-1]
    others = sorted(set(tagged) - {*best, *worst})
    generator = np.random.default_rng([seed, zlib.crc32("\n".join(others).encode())])
    drawn = generator.choice(len(others), min(count, len(others)), replace=False)
    return {"best": best, "worst": worst, "random": [others[k] for k in drawn]}


def shrink(pixels: NDArray[np.uint8], side: int) -> tuple[str, int, int]:
    """Scale a photograph (h, w, 3) down to at most `side` pixels on its longer side.

    Returns
    -------
    A data URL (WebP), its width and its height.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=_QUALITY, method=6)
    address = f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return address, image.width, image.height


def outline(rle: Rle, scale: float) -> str:
    """Return the SVG path data of a mask's outlines, with holes, on a picture scaled by `scale`.

    Coordinates are integer pixels of the picture. Outlines shorter than 16 pixels are left out.
    """
    (mask,) = masks.decode([rle], *rle["size"])
    left, top, width, height = masks.boxes([rle])[0].astype(int)
    box = mask[top : top + height, left : left + width]
    # A margin of background closes the outlines; its pixel centers are half a pixel outside.
    contours = find_contours(np.pad(box, 1).astype(float), 0.5)
    corner = np.array([top - 0.5, left - 0.5])
    # The number of points of a contour is about its length in pixels.
    on_picture = [scale * (contour + corner) for contour in contours if scale * len(contour) >= 16]
    return "".join(map(_path, on_picture))


def _path(contour: NDArray[np.float64]) -> str:
    """Return the closed path data of a contour (y, x) whose last point equals its first."""
    points = np.round(contour[:, ::-1]).astype(int)
    steps = np.diff(points, axis=0)
    steps = steps[steps.any(axis=1)]
    turns = np.flatnonzero(np.r_[True, (steps[1:] != steps[:-1]).any(axis=1)])
    if len(turns) < 3:  # no area
        return ""
    # Steps in the same direction are merged; the path is closed without a last step.
    steps = np.add.reduceat(steps, turns)[:-1]
    x, y = points[0]
    return f"M{x} {y}l" + " ".join(f"{dx} {dy}" for dx, dy in steps).replace(" -", "-") + "z"
