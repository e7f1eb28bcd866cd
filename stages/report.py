"""Show the results of a run on one page, data/report/index.html."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.common import files
from pipeline.evaluation.reliability import Reliability
from pipeline.report import page
from pipeline.report.failures import Failures
from pipeline.report.gallery import Gallery
from pipeline.report.page import (
    SPLITS,
    ReportParameters,
    SplitName,
    choose_pictures,
    count_failures,
)
from pipeline.report.results import PseudoMaskSources, Results, SplitResults
from pipeline.report.tables import read_metrics
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, load_or_compute, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read the results of all other stages, write data/report."""
    parameters = read_parameters(ReportParameters, "report")
    shelf = Shelf()
    with scratch("report") as work:
        written = make_page(results(shelf), parameters, work)
        files.write_bytes(work / "index.html", written.encode())
        check_inputs(work)
        shelf.publish(work / "index.html", "report", "index.html")
    pictures, megabytes = written.count("<image "), len(written.encode()) / 1e6
    print(f"report: {pictures} pictures, {megabytes:.1f} MB in {shelf.report}")


def make_page(opened: Results, parameters: ReportParameters, work: Path) -> str:
    """Make the page; finished parts are kept in the folder `work`."""

    def kept(what: str, function: Callable[..., Any], split: SplitName, *others: Any) -> Any:
        arguments = (opened, split, parameters, *others)
        return load_or_compute(work, f"{what}-{split}", function, *arguments)

    counts, pictures = TypeAdapter(Failures), TypeAdapter(Gallery)
    failures = {
        split: counts.validate_python(kept("failures", count_failures, split)) for split in SPLITS
    }
    galleries = {
        split: pictures.validate_python(kept("pictures", choose_pictures, split, failures[split]))
        for split in SPLITS
    }
    return page.page(opened, failures, galleries, parameters)


def results(shelf: Shelf) -> Results:
    """Open the results of all other stages."""
    proposals = shelf.proposals["train"].open()
    curves = {name: shelf.curves(name) for name in ("prm", "mask_rcnn")}
    method, settings = proposals.attributes["method"], proposals.attributes["parameters"]
    if shelf.holds_sharpmask_of(method, settings["source"]):
        folder = shelf.curves("sharpmask")
        curves |= {f"sharpmask, {phase}": folder / phase for phase in ("deepmask", "sharpening")}
    metrics = read_metrics(shelf.metrics)
    if "community" in metrics:  # it is enabled
        curves["community"] = shelf.curves("community")
    return Results(
        train=split_results(shelf, "train"),
        val=split_results(shelf, "val"),
        sources=PseudoMaskSources(shelf.peaks.open(), proposals, shelf.draws.open()),
        metrics=metrics,
        reliability=Reliability.read(shelf.reliability),
        by_area=shelf.by_area,
        by_count=shelf.by_count,
        curves=curves,
    )


def split_results(shelf: Shelf, name: str) -> SplitResults:
    """Open a split, its true masks and its predictions, with calibrated scores."""
    return SplitResults(
        split=shelf.splits[name].open(),
        truth=shelf.truth[name].open(),
        predictions=shelf.calibrated("predictions", name),
        refined=shelf.calibrated("refinement", name),
    )


if __name__ == "__main__":
    run(main)
