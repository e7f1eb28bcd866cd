"""Hold the instances of every method against the true masks, where there are any."""

from pathlib import Path
from typing import Any

from pipeline import breakdown, evaluation, recall, tables
from pipeline.artifacts import files
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import InstanceStore
from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.truth import Truth
from pipeline.evaluation import EvaluationParameters, Method, PseudoMasks
from pipeline.progress import track
from stages import SHELF, once, read_parameters, run, scratch, shelve


def main() -> None:
    """Read the truth and what it is held against, write data/evaluation."""
    parameters = read_parameters(EvaluationParameters, "evaluation")
    folder = SHELF / "dataset" / "truth"
    truth = {split: Truth.read(folder / f"{split}.json") for split in ("train", "val")}
    with scratch("evaluation") as work:
        metrics = judge_methods(open_methods(truth), parameters, work)
        quality = judge_stages(truth, work)
        files.write_json(work / "metrics.json", {**metrics, **quality}, indent=1)
        source = ProposalStore(SHELF / "proposals" / "train").attributes
        table = tables.of_evaluation(metrics, quality, source)
        files.write_bytes(work / "table.md", table.encode())
        for part in sorted(work.glob("[!.]*")):
            shelve(part, SHELF / "evaluation" / part.name)
    if any(of_split.images for of_split in truth.values()):
        print(table)
    for split, of_split in truth.items():
        if not of_split.images:
            print(f"evaluation: no image of {split} has true masks: nothing to compare with")
    counts = " + ".join(f"{len(truth[split].images)} images of {split}" for split in truth)
    print(f"evaluation: {len(metrics)} methods, {counts}")


def judge_methods(
    methods: dict[str, Method], parameters: EvaluationParameters, work: Path
) -> dict[str, Any]:
    """Judge every method; write its instances, and the numbers by class, size and count."""
    metrics, overlaps = {}, {}
    for name, method in track(methods.items(), len(methods), "methods"):
        place = work / "instances" / f"{name.replace('/', '-')}.json.gz"
        metrics[name], overlaps[name] = once(work, place.stem, judge, method, parameters)
        if not place.exists():
            evaluation.write_results(place, method)
    for name in ("mask_rcnn_gt", "mask_rcnn_gt/train"):  # plots want their columns, if empty
        overlaps.setdefault(name, breakdown.overlaps([]))
    tables.write_per_class(work / "per_class.csv", metrics)
    tables.write_by_class(work / "by_class.csv", metrics, parameters.middle)
    breakdown.write_by_area(work / "by_area.csv", overlaps)
    breakdown.write_by_count(work / "by_count.csv", overlaps)
    return metrics


def judge(
    method: Method, parameters: EvaluationParameters
) -> tuple[dict[str, Any], breakdown.Overlaps]:
    """Judge a method by every protocol, and instance by instance."""
    pairs = evaluation.pairs_of(method, parameters)
    return evaluation.evaluate(pairs, parameters), breakdown.overlaps(pairs["wise"].pairs)


def open_methods(truth: dict[str, Truth]) -> dict[str, Method]:
    """Open what every method made of val and, named /train, of train."""
    proposals = ProposalStore(SHELF / "proposals" / "train")
    pseudo_masks = PseudoMasks(DrawStore(SHELF / "sampler" / "train"), proposals)
    methods = {"pseudo_masks": Method(truth["train"], pseudo_masks, confidences=False)}
    for split, suffix in (("val", ""), ("train", "/train")):
        retrieved = InstanceStore(SHELF / "retrieval" / split)
        methods[f"prm{suffix}"] = Method(truth[split], retrieved, confidences=False)
        for name, stage in (("wise", "predictions"), ("wise+refine", "refinement")):
            methods[name + suffix] = Method(truth[split], InstanceStore(SHELF / stage / split))
        upper_bound = InstanceStore(SHELF / "mask_rcnn_gt" / split)
        if upper_bound.attributes["parameters"]["enabled"]:
            methods[f"mask_rcnn_gt{suffix}"] = Method(truth[split], upper_bound)
    return methods


def judge_stages(truth: dict[str, Truth], work: Path) -> dict[str, Any]:
    """Judge the proposals of both splits, and the peaks of train."""
    proposals = {split: ProposalStore(SHELF / "proposals" / split) for split in truth}
    peaks, draws = PeakStore(SHELF / "peaks" / "train"), DrawStore(SHELF / "sampler" / "train")
    of_proposals = {
        s: once(work, f"proposals-{s}", recall.proposal_quality, truth[s], proposals[s])
        for s in truth
    }
    of_peaks = recall.peak_quality(truth["train"], peaks, proposals["train"], draws)
    return {"proposals": of_proposals, "peaks": {"train": of_peaks}}


if __name__ == "__main__":
    run(main)
