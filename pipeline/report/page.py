"""The report, an HTML page with the results of a run: tables, curves, failures and pictures."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Literal

import jinja2
from markupsafe import Markup
from pydantic import Field, NonNegativeInt

from pipeline.common.parameters import Parameters
from pipeline.common.progress import track
from pipeline.drawing.canvas import colors
from pipeline.evaluation.stage_quality import quality_rows
from pipeline.evaluation.tables import ABOUT_DIFFERENCES, ABOUT_INTERVALS
from pipeline.report import charts, tables
from pipeline.report.charts import Chart, line_chart, reliability_chart, training_chart
from pipeline.report.failures import (
    PREDICTION_OUTCOMES,
    PSEUDO_MASK_OUTCOMES,
    Failures,
)
from pipeline.report.gallery import Gallery, Painter
from pipeline.report.results import Results

_TEMPLATES = Path(__file__).parent

SplitName = Literal["train", "val"]
SPLITS: tuple[SplitName, ...] = ("train", "val")
OUTCOMES: Mapping[SplitName, tuple[str, ...]] = {
    "train": PSEUDO_MASK_OUTCOMES,
    "val": PREDICTION_OUTCOMES,
}


class ReportParameters(Parameters):
    """Settings of the stage `report`: the number of pictures, and what is drawn on them."""

    renamed: ClassVar[Mapping[str, str]] = {
        "images": "images_per_class",
        "side": "image_size",
        "least_score": "min_relative_score",
    }

    images_per_class: int = Field(
        ge=1, le=20, description="number of best, of typical and of worst photographs per class"
    )
    image_size: int = Field(
        ge=64, le=2048, description="longer side of photographs in the report, in pixels"
    )
    min_relative_score: float = Field(
        ge=0,
        le=1,
        description="minimum score of drawn predictions, as a fraction of the highest in the image",
    )
    seed: NonNegativeInt = Field(
        description="seed of the random photographs, shown where true masks are missing"
    )


def count_failures(results: Results, split: SplitName, parameters: ReportParameters) -> Failures:
    """Sort the true instances of a split: pseudo masks of `train`, refined predictions of `val`."""
    painter = _painter(results, split, parameters)
    true, outcomes = painter.results.truth.images, OUTCOMES[split]
    images = ((image.id, painter.outcomes(image)) for image in track(true, len(true), split))
    return Failures.of_images(outcomes, images, painter.results.split.classes)


def choose_pictures(
    results: Results, split: SplitName, parameters: ReportParameters, failures: Failures
) -> Gallery:
    """Choose and draw the pictures of a split."""
    painter = _painter(results, split, parameters)
    return painter.gallery(
        failures, parameters.images_per_class, parameters.seed, f"pictures of {split}"
    )


def _painter(results: Results, split: SplitName, parameters: ReportParameters) -> Painter:
    split_results, sources = (
        (results.train, results.sources) if split == "train" else (results.val, None)
    )
    return Painter(split_results, sources, parameters.image_size, parameters.min_relative_score)


def page(
    results: Results,
    failures: Mapping[SplitName, Failures],
    galleries: Mapping[SplitName, Gallery],
    parameters: ReportParameters,
) -> str:
    """Render the page: HTML with one script of its own, no other files, and no network access."""
    metrics = results.metrics
    source = results.sources.proposals.attributes
    classes = results.train.split.classes
    script = (_TEMPLATES / "script.js").read_text()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        results=results,
        class_names=classes,
        colors=[f"rgb({r} {g} {b})" for r, g, b in colors(len(classes))],
        script=Markup(script),
        script_digest=b64encode(sha256(script.encode()).digest()).decode(),
        source=source,
        note=f"Proposals by {source['method']}; their supervision: {source['supervision']}",
        judged=tables.is_judged(metrics),
        headline=tables.headline(metrics),
        methods=tables.method_tables(metrics),
        differences=tables.difference_table(metrics),
        about_intervals=ABOUT_INTERVALS,
        about_differences=ABOUT_DIFFERENCES,
        classes=tables.class_tables(metrics),
        proposals=tables.quality_table(
            quality_rows("proposals of", metrics["proposals"], "by_size")
        ),
        peaks=tables.quality_table(quality_rows("peaks of", metrics["peaks"], "per_class")),
        figure5=_figure5(results),
        reliability=_reliability(results),
        failures=failures,
        links={split: _links(failures[split], galleries[split]) for split in SPLITS},
        curves=[training_chart(title, folder) for title, folder in results.curves.items()],
        galleries=galleries,
        parameters=parameters,
        plot=charts,
    )


def _links(failures: Failures, gallery: Gallery) -> dict[str, dict[str, list[int]]]:
    """Find the pictures of each outcome: class -> outcome -> positions in the gallery."""
    return {
        name: {outcome: gallery.positions(images) for outcome, images in of_class.items()}
        for name, of_class in failures.images.items()
    }


def _figure5(results: Results) -> list[Chart]:
    area = charts.read_plot(results.by_area)
    count = charts.read_plot(results.by_count)
    return [
        line_chart("Over an object's size", "side, % of the image's", area.labels, area.known()),
        line_chart(
            "Over the number of objects", "objects (5: or more)", count.labels, count.known()
        ),
    ]


def _reliability(results: Results) -> list[Chart]:
    """Chart for each class how often the detections in evaluation images are right."""
    curves_of = {
        method: curves
        for method, curves in results.reliability.curves.items()
        if not method.endswith("/train")
    }
    return [
        reliability_chart(name, {method: curves[name] for method, curves in curves_of.items()})
        for name in results.val.split.classes
    ]
