"""The photographs of the report: their choice, their size, and the layers drawn over them."""

import base64
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.split import Photograph
from pipeline.artifacts.truth import TrueImage
from pipeline.common import masks
from pipeline.common.masks import Rle
from pipeline.common.progress import track
from pipeline.evaluation.measures import best_overlaps
from pipeline.report.failures import (
    Failures,
    Outcome,
    pair,
    prediction_outcomes,
    pseudo_mask_outcomes,
)
from pipeline.report.results import PseudoMaskSources, SplitResults

_QUALITY = 70  # of WebP
_MAX_PREDICTIONS = 20  # drawn on a picture


@dataclass(frozen=True)
class Shape:
    """A mask as SVG path data, and what is known about it.

    label : index of its class.
    score : confidence of a prediction.
    iou : highest IoU with a true instance of its class; of a true instance, with a refined
        prediction. None without true masks.
    outcome : what became of a true instance, one of those in `failures`.
    """

    path: str
    label: int
    score: float | None = None
    iou: float | None = None
    outcome: str | None = None


@dataclass(frozen=True)
class Mark:
    """A peak and the index of its class, in pixels of the picture."""

    x: float
    y: float
    label: int


@dataclass(frozen=True)
class Picture:
    """A small photograph as a data URL, and what is drawn over it: layers of shapes, and peaks.

    `overlap` is the mean best overlap (IoU), 0 to 1, of its true instances with the refined
    predictions, or None if it has no true instances.
    """

    photograph: Photograph
    address: str
    width: int
    height: int
    layers: Mapping[str, Sequence[Shape]]
    peaks: Sequence[Mark]
    overlap: float | None

    def found(self) -> list[tuple[int, int, float | None]]:
        """Return the classes of the refined predictions with count and best score, best first."""
        best: dict[int, float | None] = {}
        for shape in sorted(self.layers["refined"], key=lambda shape: -(shape.score or 0.0)):
            best.setdefault(shape.label, shape.score)
        labels = [shape.label for shape in self.layers["refined"]]
        return [(label, labels.count(label), score) for label, score in best.items()]


@dataclass(frozen=True)
class Gallery:
    """The pictures of a split.

    pictures : each photograph once, the highest overlap first.
    opening : the pictures that the page opens with: pairs of a reason (`best`, `typical`, `worst`
        or `random`) and a position in `pictures`.
    """

    pictures: Sequence[Picture]
    opening: Sequence[tuple[str, int]]

    def positions(self, images: Iterable[str]) -> list[int]:
        """Return the positions of the pictures of images with these ids, as far as shown."""
        wanted = set(images)
        return [k for k, shown in enumerate(self.pictures) if shown.photograph.id in wanted]


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

    def gallery(self, failures: Failures, images: int, seed: int, what: str) -> Gallery:
        """Make the pictures of a split.

        They are the best, typical and worst images, `images` each, of each class and one each of
        the split, and an example of each failure in each class.
        """
        means, means_by_class = self._mean_overlaps()
        photographs = {photograph.id: photograph for photograph in self.results.split.photographs}
        opening = choose(means, list(photographs), 1, seed)
        chosen = {image for ids in opening.values() for image in ids}
        for name, of_name in zip(self.results.split.classes, means_by_class, strict=True):
            tagged = [image for image, p in photographs.items() if name in p.tags]
            of_class = choose(of_name, tagged, images, seed)
            chosen |= {image for ids in of_class.values() for image in ids}
        chosen |= examples(failures, chosen)
        ranked = sorted(chosen, key=lambda image: (-means.get(image, -1.0), image))
        return Gallery(
            [self.picture(photographs[i], means.get(i)) for i in track(ranked, len(ranked), what)],
            [(why, ranked.index(image)) for why, ids in opening.items() for image in ids],
        )

    def picture(self, photograph: Photograph, overlap: float | None) -> Picture:
        """Make the picture of a photograph."""
        address, width, height = shrink(self.results.split.image(photograph), self.image_size)
        layers = self._layers(photograph.id, width / photograph.width)
        peaks = self._peaks(photograph, width, height)
        return Picture(photograph, address, width, height, layers, peaks, overlap)

    def drawn(self, instances: Instances) -> Instances:
        """Select the predictions of an image that are drawn."""
        min_score = self.min_relative_score * instances.score.max(initial=0.0)
        rows = np.flatnonzero(instances.score >= min_score)[:_MAX_PREDICTIONS]
        return instances.take(rows)

    def outcomes(self, image: TrueImage) -> list[Outcome]:
        """Determine the outcome of each true instance of an image.

        It is that of its pseudo mask, or of the drawn refined predictions if the split has no
        pseudo masks.
        """
        if self.sources is None:
            return prediction_outcomes(image, self._refined(image.id))
        return pseudo_mask_outcomes(
            image,
            self.sources.peaks.points(image.id),
            self.sources.proposals.proposals(image.id),
            self.sources.draws.draws(image.id),
        )

    def _refined(self, image_id: str) -> Instances:
        return self.drawn(self.results.refined.instances(image_id))

    def _best_overlaps(self, image: TrueImage) -> NDArray[np.float64]:
        """Compute the best overlap of each true instance with the refined predictions, (n,)."""
        return best_overlaps(pair(image, self._refined(image.id)))

    def _mean_overlaps(self) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Average the best overlaps over the true instances of an image, and of each class in it.

        Returns
        -------
        The means by image, and for each class the means by image.
        """
        means: dict[str, float] = {}
        by_class: list[dict[str, float]] = [{} for _ in self.results.split.classes]
        for image in self.results.truth.images:
            best, labels = self._best_overlaps(image), image.labels()
            if len(best):
                means[image.id] = float(best.mean())
            for label in np.unique(labels):
                by_class[label][image.id] = float(best[labels == label].mean())
        return means, by_class

    def _layers(self, image_id: str, scale: float) -> dict[str, list[Shape]]:
        """Outline the instances of each layer on a picture scaled by `scale`, lowest layer first.

        Truth is below, so that on a screen a prediction can be pointed at where both are.
        """
        true = self.results.true_images.get(image_id)
        layers = {"truth": self._true_shapes(true, scale)} if true else {}
        for name, found in self._found(image_id).items():
            layers[name] = _shapes(found, true, scale, scored=name != "pseudo")
        return layers

    def _true_shapes(self, true: TrueImage, scale: float) -> list[Shape]:
        rles, ious = true.masks(), self._best_overlaps(true).tolist()
        shapes = [
            Shape(outline(rle, scale), label, None, iou, outcome)
            for rle, iou, (label, outcome) in zip(rles, ious, self.outcomes(true), strict=True)
        ]
        return [shapes[k] for k in masks.largest_first(rles)]

    def _found(self, image_id: str) -> dict[str, Instances]:
        """Return the instances of each layer but the truth, those of the last step last."""
        layers = {}
        if self.sources:
            proposals = self.sources.proposals.proposals(image_id)
            layers["pseudo"] = self.sources.draws.draws(image_id).instances(proposals, epoch=0)
        layers["predictions"] = self.drawn(self.results.predictions.instances(image_id))
        layers["refined"] = self._refined(image_id)
        return layers

    def _peaks(self, photograph: Photograph, width: int, height: int) -> list[Mark]:
        if not self.sources:
            return []
        peaks = self.sources.peaks.points(photograph.id)
        x = (peaks.x + 0.5) * width / photograph.width
        y = (peaks.y + 0.5) * height / photograph.height
        return [
            Mark(*row) for row in zip(x.tolist(), y.tolist(), peaks.label.tolist(), strict=True)
        ]


def _shapes(found: Instances, true: TrueImage | None, scale: float, scored: bool) -> list[Shape]:
    """Outline instances, and compare them with the true ones if these are known."""
    ious: Sequence[float | None] = [None] * len(found.masks)
    if true:
        compared = pair(true, found)
        found = compared.found
        # Their best overlaps are with the true instances, not the other way round.
        ious = best_overlaps(replace(compared, true=found, found=compared.true)).tolist()
    shapes = [
        Shape(outline(rle, scale), int(label), float(score) if scored else None, iou)
        for rle, label, score, iou in zip(found.masks, found.label, found.score, ious, strict=True)
    ]
    return [shapes[k] for k in masks.largest_first(found.masks)]


def choose(
    overlaps: Mapping[str, float], tagged: Sequence[str], count: int, seed: int
) -> dict[str, list[str]]:
    """Choose the `count` best, typical and worst images; typical ones are around the median.

    Where fewer images have true masks, random others take their place. No image is chosen twice.

    Parameters
    ----------
    overlaps : mean best overlap of the images with true masks, by id.
    tagged : ids of all images to choose from.
    """
    ranked = sorted(overlaps, key=lambda image: (-overlaps[image], image))
    best, rest = ranked[:count], ranked[count:]
    middle, worst = rest[:-count], rest[-count:]
    start = max(0, (len(middle) - count) // 2)
    typical = middle[start : start + count]
    others = sorted(set(tagged) - set(ranked))
    missing = 3 * count - len(best) - len(typical) - len(worst)
    generator = np.random.default_rng([seed, zlib.crc32("\n".join(others).encode())])
    drawn = generator.choice(len(others), min(missing, len(others)), replace=False)
    random = [others[k] for k in drawn]
    return {"best": best, "typical": typical, "worst": worst, "random": random}


def examples(failures: Failures, chosen: Iterable[str]) -> set[str]:
    """Return an image for each class and failure that no image among `chosen` shows."""
    shown = set(chosen)
    missing = set()
    for of_class in failures.images.values():
        for outcome, images in of_class.items():
            if outcome != "right" and images and shown.isdisjoint(images):
                missing.add(images[0])
    return missing


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
