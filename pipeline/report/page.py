"""One page that shows what a run came to: tables, curves, losses, and pictures with layers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import jinja2
from pydantic import Field, NonNegativeInt

from pipeline.common.parameters import Parameters
from pipeline.common.progress import track
from pipeline.evaluation.stage_quality import quality_rows
from pipeline.report import charts, tables
from pipeline.report.charts import Chart, line_chart, training_chart
from pipeline.report.failures import (
    OF_PREDICTIONS,
    OF_PSEUDO_MASKS,
    Fate,
    Losses,
    of_predictions,
    of_pseudo_masks,
)
from pipeline.report.gallery import Gallery, Painter
from pipeline.report.results import Results

_TEMPLATES = Path(__file__).parent

SplitName = Literal["train", "val"]
SPLITS: tuple[SplitName, ...] = ("train", "val")


class ReportParameters(Parameters):
    """How many pictures the page holds, and what is drawn on them."""

    images: int = Field(
        ge=1, le=20, description="photographs of a class shown as best, as worst, at random"
    )
    side: int = Field(ge=64, le=2048, description="longer side of a shown photograph, in pixels")
    least_score: float = Field(
        ge=0, le=1, description="predictions drawn: least score, in parts of their image's highest"
    )
    seed: NonNegativeInt = Field(description="of the random photographs")


def count_losses(results: Results, split: SplitName, parameters: ReportParameters) -> Losses:
    """Count where instances are lost: of `train` on the way to pseudo masks, of `val` after it."""
    classes = results.train.split.classes
    if split == "train":
        return Losses.count(OF_PSEUDO_MASKS, _ends_of_pseudo_masks(results), classes)
    painter = _painter(results, split, parameters)
    return Losses.count(OF_PREDICTIONS, _ends_of_predictions(painter), classes)


def choose_pictures(results: Results, split: SplitName, parameters: ReportParameters) -> Gallery:
    """Choose and paint the pictures of a split."""
    painter = _painter(results, split, parameters)
    return painter.gallery(parameters.images, parameters.seed, f"pictures of {split}")


def _painter(results: Results, split: SplitName, parameters: ReportParameters) -> Painter:
    half, origins = (results.train, results.origins) if split == "train" else (results.val, None)
    return Painter(half, origins, parameters.side, parameters.least_score)


def page(
    results: Results,
    losses: Mapping[SplitName, Losses],
    galleries: Mapping[SplitName, Gallery],
    parameters: ReportParameters,
) -> str:
    """Make the page: HTML that needs no other file, no script and no network."""
    metrics = results.metrics
    source = results.origins.proposals.attributes
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        results=results,
        source=source,
        note=f"Proposals by {source['method']}; their supervision: {source['supervision']}",
        judged=tables.is_judged(metrics),
        methods=tables.of_methods(metrics),
        classes=tables.of_classes(metrics),
        proposals=tables.of_rows(quality_rows("proposals of", metrics["proposals"], "by_size")),
        peaks=tables.of_rows(quality_rows("peaks of", metrics["peaks"], "per_class")),
        figure5=_figure5(results),
        losses=losses,
        curves=[training_chart(title, folder) for title, folder in results.curves.items()],
        galleries=galleries,
        least_score=parameters.least_score,
        plot=charts,
    )


def _figure5(results: Results) -> list[Chart]:
    area = charts.read_plot(results.by_area)
    count = charts.read_plot(results.by_count)
    return [
        line_chart("Over an object's size", "side, % of the image's", area.labels, area.known()),
        line_chart(
            "Over the number of objects", "objects (5: or more)", count.labels, count.known()
        ),
    ]


def _ends_of_pseudo_masks(results: Results) -> Iterator[Fate]:
    origins, images = results.origins, results.train.truth.images
    for image in track(images, len(images), "pseudo masks of train"):
        yield from of_pseudo_masks(
            image,
            origins.peaks.points(image.id),
            origins.proposals.proposals(image.id),
            origins.draws.draws(image.id),
        )


def _ends_of_predictions(painter: Painter) -> Iterator[Fate]:
    images = painter.half.truth.images
    for image in track(images, len(images), "predictions of val"):
        found = painter.drawn(painter.half.refined.instances(image.id))
        yield from of_predictions(image, found)
