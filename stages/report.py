"""Show what the run came to on one page, data/report/index.html."""

from pathlib import Path

from pipeline import report
from pipeline.artifacts import files
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import InstanceStore
from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.artifacts.truth import Truth
from pipeline.report import SPLITS, ReportParameters, choose_pictures, count_losses
from pipeline.reporting.results import Half, Origins, Results
from pipeline.reporting.tables import read_metrics
from stages import SHELF, once, read_parameters, run, scratch, shelve


def main() -> None:
    """Read what all other stages left, write data/report."""
    parameters = read_parameters(ReportParameters, "report")
    with scratch("report") as work:
        page = make_page(parameters, work)
        files.write_bytes(work / "index.html", page.encode())
        shelve(work / "index.html", SHELF / "report" / "index.html")
    pictures, megabytes = page.count("<img "), len(page.encode()) / 1e6
    print(f"report: {pictures} pictures, {megabytes:.1f} MB in {SHELF / 'report' / 'index.html'}")


def make_page(parameters: ReportParameters, work: Path) -> str:
    """Make the page; what was counted and painted is kept in the folder `work`."""
    opened = results()
    losses = {
        split: once(work, f"losses-{split}", count_losses, opened, split, parameters)
        for split in SPLITS
    }
    galleries = {
        split: once(work, f"pictures-{split}", choose_pictures, opened, split, parameters)
        for split in reversed(SPLITS)
    }
    return report.page(opened, losses, galleries, parameters)


def results() -> Results:
    """Open what all other stages left."""
    proposals = ProposalStore(SHELF / "proposals" / "train")
    curves = {"prm": SHELF / "prm" / "curves", "mask_rcnn": SHELF / "mask_rcnn" / "curves"}
    if proposals.attributes["method"] == "sharpmask":
        folder = SHELF / "sharpmask" / "curves"
        curves |= {f"sharpmask, {phase}": folder / phase for phase in ("deepmask", "sharpening")}
    return Results(
        train=half("train"),
        val=half("val"),
        origins=Origins(
            peaks=PeakStore(SHELF / "peaks" / "train"),
            proposals=proposals,
            draws=DrawStore(SHELF / "sampler" / "train"),
        ),
        metrics=read_metrics(SHELF / "evaluation" / "metrics.json"),
        by_area=SHELF / "evaluation" / "by_area.csv",
        by_count=SHELF / "evaluation" / "by_count.csv",
        curves=curves,
    )


def half(name: str) -> Half:
    """Open a split and what was made of it."""
    return Half(
        split=Split.read(SHELF / "dataset" / f"{name}.json"),
        truth=Truth.read(SHELF / "dataset" / "truth" / f"{name}.json"),
        predictions=InstanceStore(SHELF / "predictions" / name),
        refined=InstanceStore(SHELF / "refinement" / name),
    )


if __name__ == "__main__":
    run(main)
