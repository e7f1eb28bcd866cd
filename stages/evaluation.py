"""Hold the instances of every method against the true masks, where there are any."""

from pathlib import Path
from typing import Any

from pipeline import breakdown, evaluation, recall
from pipeline.artifacts import files
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import InstanceStore
from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.truth import Truth
from pipeline.evaluation import EvaluationParameters, Method, PseudoMasks
from pipeline.progress import track
from pipeline.tables import tables
from stages import SHELF, read_parameters, run, scratch, shelve

PARTS = ("instances", "metrics.json", "per_class.csv", "by_area.csv", "by_count.csv", "table.md")


def main() -> None:
    """Read the truth and what it is held against, write data/evaluation."""
    parameters = read_parameters(EvaluationParameters, "evaluation")
    folder = SHELF / "dataset" / "truth"
    truth = {split: Truth.read(folder / f"{split}.json") for split in ("train", "val")}
    with scratch("evaluation") as work:
        metrics = judge_methods(truth, parameters, work)
        quality = judge_stages(truth)
        files.write_json(work / "metrics.json", {**metrics, **quality}, indent=1)
        table = tables(metrics, quality, ProposalStore(SHELF / "proposals" / "train").attributes)
        files.write_bytes(work / "table.md", table.encode())
        for part in PARTS:
            shelve(work / part, SHELF / "evaluation" / part)
    print(table)
    for split, of_split in truth.items():
        if not of_split.images:
            print(f"evaluation: no image of {split} has true masks: nothing to compare with")
    counts = " + ".join(f"{len(truth[split].images)} images of {split}" for split in truth)
    print(f"evaluation: {len(metrics)} methods, {counts}")


def judge_methods(
    truth: dict[str, Truth], parameters: EvaluationParameters, work: Path
) -> dict[str, Any]:
    """Judge every method; write its instances, and the numbers by class, size and count."""
    proposals = ProposalStore(SHELF / "proposals" / "train")
    pseudo_masks = PseudoMasks(DrawStore(SHELF / "sampler" / "train"), proposals)
    train, val = truth["train"], truth["val"]
    methods = {
        "pseudo_masks": Method(train, pseudo_masks, confidences=False),
        "wise": Method(val, InstanceStore(SHELF / "predictions" / "val")),
        "wise+refine": Method(val, InstanceStore(SHELF / "refinement" / "val")),
        "wise/train": Method(train, InstanceStore(SHELF / "predictions" / "train")),
        "wise+refine/train": Method(train, InstanceStore(SHELF / "refinement" / "train")),
    }
    metrics, overlaps = {}, {}
    for name, method in track(methods.items(), len(methods), "methods"):
        metrics[name] = evaluation.evaluate(method, parameters)
        overlaps[name] = breakdown.overlaps(method, parameters)
        file_name = f"{name.replace('/', '-')}.json.gz"
        evaluation.write_results(work / "instances" / file_name, method)
    evaluation.write_per_class(work / "per_class.csv", metrics)
    breakdown.write_by_area(work / "by_area.csv", overlaps)
    breakdown.write_by_count(work / "by_count.csv", overlaps)
    return metrics


def judge_stages(truth: dict[str, Truth]) -> dict[str, Any]:
    """Judge the proposals of both splits, and the peaks of train."""
    proposals = {split: ProposalStore(SHELF / "proposals" / split) for split in truth}
    peaks, draws = PeakStore(SHELF / "peaks" / "train"), DrawStore(SHELF / "sampler" / "train")
    of_proposals = {
        split: recall.proposal_quality(truth[split], proposals[split]) for split in truth
    }
    of_peaks = recall.peak_quality(truth["train"], peaks, proposals["train"], draws)
    return {"proposals": of_proposals, "peaks": {"train": of_peaks}}


if __name__ == "__main__":
    run(main)
