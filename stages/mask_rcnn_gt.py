"""Train the detector on true masks, if asked to, and see what it detects: the upper bound."""

from pathlib import Path

from pipeline import runtime
from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.split import Split
from pipeline.artifacts.truth import Truth
from pipeline.mask_rcnn import MaskRcnnParameters, train
from pipeline.mask_rcnn_gt import MaskRcnnGtParameters, TrueMasks, as_many_steps
from pipeline.parallel import fill
from pipeline.predictions import PredictionsParameters, Predictor
from pipeline.training import Places, write_results
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/dataset and the truth of train, write data/mask_rcnn_gt: empty stores if off."""
    parameters = read_parameters(MaskRcnnGtParameters, "mask_rcnn_gt")
    detections = read_parameters(PredictionsParameters, "predictions")
    of_classifier = SHELF / "prm" / "weights.safetensors"
    splits = {name: Split.read(SHELF / "dataset" / f"{name}.json") for name in ("val", "train")}
    with scratch("mask_rcnn_gt") as unfinished:
        place = unfinished / "mask_rcnn_gt"
        if parameters.enabled:
            learn(splits["train"], unfinished / "checkpoint.pt", place)
        if not runtime.is_main_process():
            return
        predictor = Predictor(place / "weights.safetensors", detections, of_classifier)
        for name, split in splits.items():
            settings = parameters.model_dump()
            with InstanceWriter(place / name, "mask_rcnn_gt", split.classes, settings) as store:
                if parameters.enabled:
                    fill(store, predictor, split.path, split.photographs, f"mask_rcnn_gt, {name}")
            print(f"mask_rcnn_gt: {store.rows} instances in {store.finished} {name} images")
        shelve(place, SHELF / "mask_rcnn_gt")
    if not parameters.enabled:
        print("mask_rcnn_gt: off; mask_rcnn_gt.enabled switches it on")


def learn(split: Split, checkpoint: Path, place: Path) -> None:
    """Train as mask_rcnn does, but on true masks; leave weights, metrics and curves at a place."""
    true_masks = TrueMasks(Truth.read(SHELF / "dataset" / "truth" / "train.json"))
    same = read_parameters(MaskRcnnParameters, "mask_rcnn")
    parameters = as_many_steps(same, split, true_masks)
    places = Places(checkpoint, place / "curves")
    network, metrics = train(split, true_masks, parameters, places, "mask_rcnn_gt")
    if runtime.is_main_process():
        write_results(place, network, network.description, metrics)
        print(f"mask_rcnn_gt: {metrics['images']} images, loss {metrics['loss']:.3f}")


if __name__ == "__main__":
    run(main)
