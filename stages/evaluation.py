"""Evaluate the instances of every method on the images that have true masks."""

from pathlib import Path
from typing import Any

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.coco import write_results
from pipeline.artifacts.draws import FirstDraws
from pipeline.artifacts.instances import InstanceSource, InstanceView
from pipeline.artifacts.truth import Truth
from pipeline.common import files
from pipeline.common.progress import track
from pipeline.detectors.calibration import fit
from pipeline.detectors.refinement import RefinementParameters, refine
from pipeline.evaluation import by_size, tables
from pipeline.evaluation.intervals import Estimates, differences
from pipeline.evaluation.protocols import EvaluationParameters, Method, pairs_of
from pipeline.evaluation.reliability import Reliability, reliability_curves
from pipeline.evaluation.stage_quality import peak_quality, proposal_quality
from pipeline.evaluation.summary import evaluate, mean_names
from stages.common.parameters import read_parameters, read_value
from stages.common.run import run
from stages.common.scratch import check_inputs, load_or_compute, scratch
from stages.common.shelf import Shelf

# Methods that dvc.yaml plots: their columns are there, if empty.
PLOTTED = ("wise", "wise+refine", "community", "mask_rcnn_gt")
# A mask is replaced at most by a proposal that is equal to it.
REPLACES_NONE = 1.0


def main() -> None:
    """Read the true masks and the instances of every method, write data/evaluation."""
    parameters = read_parameters(EvaluationParameters, "evaluation")
    shelf = Shelf()
    truth = {split: artifact.open() for split, artifact in shelf.truth.items()}
    with scratch("evaluation") as work:
        metrics, compared = evaluate_methods(open_methods(shelf, truth), parameters, work)
        quality = evaluate_stages(shelf, truth, work)
        content = {**metrics, "differences": compared, **quality}
        files.write_json(work / "metrics.json", content, indent=1)
        source = shelf.proposals["train"].open().attributes
        table = tables.evaluation_tables(metrics, compared, quality, source)
        files.write_bytes(work / "table.md", table.encode())
        check_inputs(work)
        for part in sorted(work.glob("[!.]*")):
            shelf.publish(part, "evaluation", part.name)
    if any(of_split.images for of_split in truth.values()):
        print(table)
    for split, of_split in truth.items():
        if not of_split.images:
            print(f"evaluation: no image of {split} has true masks to compare with")
    counts = " + ".join(f"{len(truth[split].images)} images of {split}" for split in truth)
    print(f"evaluation: {len(metrics)} methods, {counts}")


def evaluate_methods(
    methods: dict[str, Method], parameters: EvaluationParameters, work: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Evaluate every method; write its instances, and the metrics by class, size, count and score.

    Returns
    -------
    The metrics by method, and the differences between methods.
    """
    metrics, estimates, overlaps, curves = {}, {}, {}, {}
    for name, method in track(methods.items(), len(methods), "methods"):
        place = work / "instances" / f"{name.replace('/', '-')}.json.gz"
        of_method = load_or_compute(work, place.stem, evaluate_method, method, parameters)
        metrics[name] = of_method["metrics"]
        estimates[name] = Estimates.of_lists(**of_method["estimates"])
        overlaps[name] = by_size.Overlaps.of_lists(**of_method["overlaps"])
        if method.confidences:
            curves[name] = of_method["curves"]
        if not place.exists():
            found = method.predictions
            images = ((image_id, found.instances(image_id)) for image_id in found)
            write_results(place, images, method.truth.classes)
    for name in PLOTTED:
        overlaps.setdefault(name, by_size.overlaps([]))
        overlaps.setdefault(f"{name}/train", by_size.overlaps([]))
    tables.write_per_class(work / "per_class.csv", metrics)
    tables.write_by_class(work / "by_class.csv", metrics, parameters.middle, also="wise+refine")
    by_size.write_by_area(work / "by_area.csv", overlaps)
    by_size.write_by_count(work / "by_count.csv", overlaps)
    Reliability(curves=curves).write(work / "reliability.json")
    return metrics, differences(estimates, mean_names(parameters))


def evaluate_method(method: Method, parameters: EvaluationParameters) -> dict[str, Any]:
    """Evaluate a method with each protocol, each of its true instances, and its scores."""
    pairs = pairs_of(method, parameters)
    metrics, estimates = evaluate(pairs, parameters)
    overlaps = by_size.overlaps(pairs["wise"].pairs)
    curves = reliability_curves(pairs["coco"])
    return {"metrics": metrics, "estimates": estimates, "overlaps": overlaps, "curves": curves}


def open_methods(shelf: Shelf, truth: dict[str, Truth]) -> dict[str, Method]:
    """Open the instances of every method on val and, with the suffix /train, on train.

    With the suffix /uncalibrated, those of val with the scores before calibration.
    """
    drawn = FirstDraws(shelf.draws.open(), shelf.proposals["train"].open())
    methods = {"pseudo_masks": Method(truth["train"], drawn, confidences=False)}
    fitted = calibrations(shelf, drawn)
    for split, suffix in (("val", ""), ("train", "/train")):
        retrieved = shelf.retrieval[split].open()
        methods[f"prm{suffix}"] = Method(truth[split], retrieved, confidences=False)
        community = shelf.community_predictions[split].open()
        if community.attributes["parameters"]["enabled"]:
            methods[f"community{suffix}"] = Method(truth[split], community)
        for name, store in detections(shelf, split).items():
            methods[f"{name}{suffix}"] = Method(truth[split], fitted[name].view(store))
    if any(calibration.enabled for calibration in fitted.values()):
        for name, store in detections(shelf, "val").items():
            methods[f"{name}/uncalibrated"] = Method(truth["val"], store)
    return methods


def detections(shelf: Shelf, split: str) -> dict[str, InstanceSource]:
    """Open the detections of the detector, refined ones, and those of the upper bound if it is on.

    The upper bound keeps its masks. Its scores are weighted, and its masks suppressed, as those of
    the refined detections.
    """
    name, refined = detector(), shelf.refinement[split].open()
    found: dict[str, InstanceSource] = {
        name: shelf.predictions[split].open(),
        f"{name}+refine": refined,
    }
    upper_bound = shelf.mask_rcnn_gt[split].open()
    if upper_bound.attributes["parameters"]["enabled"]:
        proposals = shelf.proposals[split].open()
        settings = RefinementParameters(**refined.attributes["parameters"])
        settings = settings.model_copy(update={"min_iou": REPLACES_NONE})
        found["mask_rcnn_gt"] = InstanceView(
            upper_bound,
            lambda image, of_image: refine(of_image, proposals.proposals(image), settings),
        )
    return found


def calibrations(shelf: Shelf, drawn: FirstDraws) -> dict[str, Calibration]:
    """Give the calibration of each method; that of the upper bound is fitted in the same way."""
    calibration = {stage: of_stage.open() for stage, of_stage in shelf.calibrations.items()}
    found = detections(shelf, "train")
    fitted = dict.fromkeys(found, calibration["predictions"])
    fitted[f"{detector()}+refine"] = calibration["refinement"]
    if "mask_rcnn_gt" in found:
        split, like = shelf.splits["train"].open(), calibration["refinement"]
        fitted["mask_rcnn_gt"] = (
            fit(split, drawn, found["mask_rcnn_gt"], like.max_overlap) if like.enabled else like
        )
    return fitted


def detector() -> str:
    """Name the method of the detector, by what it learned from."""
    learned_from = read_value("mask_rcnn.pseudo_masks")
    return "wise" if learned_from == "sampler" else "community+mask_rcnn"


def evaluate_stages(shelf: Shelf, truth: dict[str, Truth], work: Path) -> dict[str, Any]:
    """Evaluate the proposals of both splits, and the peaks of train."""
    stores = {split: shelf.proposals[split].open() for split in truth}
    proposals = {
        split: load_or_compute(
            work, f"proposals-{split}", proposal_quality, truth[split], stores[split]
        )
        for split in truth
    }
    peaks = peak_quality(truth["train"], shelf.peaks.open(), stores["train"], shelf.draws.open())
    return {"proposals": proposals, "peaks": {"train": peaks}}


if __name__ == "__main__":
    run(main)
