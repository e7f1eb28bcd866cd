"""One page that shows what a run came to: tables, curves, losses, and pictures with layers."""

from collections.abc import Iterator
from pathlib import Path

import jinja2
from pydantic import Field, NonNegativeInt

from pipeline.parameters import Parameters
from pipeline.progress import track
from pipeline.recall import quality_rows
from pipeline.reporting import charts, losses, tables
from pipeline.reporting.charts import Chart, line_chart, training_chart
from pipeline.reporting.gallery import Painter
from pipeline.reporting.losses import OF_PREDICTIONS, OF_PSEUDO_MASKS, Fate, Losses
from pipeline.reporting.results import Results

_TEMPLATES = Path(__file__).parent / "reporting"


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


def page(results: Results, parameters: ReportParameters) -> str:
    """Make the page: HTML that needs no other file, no script and no network."""
    val = Painter(results.val, None, parameters.side, parameters.least_score)
    train = Painter(results.train, results.origins, parameters.side, parameters.least_score)
    metrics, classes = results.metrics, results.train.split.classes
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
        losses={
            "train": Losses.count(OF_PSEUDO_MASKS, _ends_of_pseudo_masks(results), classes),
            "val": Losses.count(OF_PREDICTIONS, _ends_of_predictions(val), classes),
        },
        curves=[training_chart(title, folder) for title, folder in results.curves.items()],
        galleries={
            "val": val.gallery(parameters.images, parameters.seed, "pictures of val"),
            "train": train.gallery(parameters.images, parameters.seed, "pictures of train"),
        },
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
        yield from losses.of_pseudo_masks(
            image,
            origins.peaks.points(image.id),
            origins.proposals.proposals(image.id),
            origins.draws.draws(image.id),
        )


def _ends_of_predictions(painter: Painter) -> Iterator[Fate]:
    images = painter.half.truth.images
    for image in track(images, len(images), "predictions of val"):
        found = painter.drawn(painter.half.refined.instances(image.id))
        yield from losses.of_predictions(image, found)
