"""Train the detector on true masks, if enabled, and detect the instances: the upper bound."""

from pathlib import Path

from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.split import Split
from pipeline.artifacts.truth import Truth
from pipeline.common import runtime
from pipeline.detectors.mask_rcnn.rounds import train_round
from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters
from pipeline.detectors.predictions import PredictionsParameters, Predictor
from pipeline.detectors.upper_bound import MaskRcnnGtParameters, match_steps
from pipeline.execution.photographs import fill_together
from pipeline.pseudo_masks.true_masks import TrueMasks
from stages.common.curves import curves
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read data/dataset with the true masks of train, write data/mask_rcnn_gt (empty if off)."""
    parameters = read_parameters(MaskRcnnGtParameters, "mask_rcnn_gt")
    detections = read_parameters(PredictionsParameters, "predictions")
    shelf = Shelf()
    splits = {name: shelf.splits[name].open() for name in ("val", "train")}
    with scratch("mask_rcnn_gt") as unfinished:
        place = unfinished / "mask_rcnn_gt"
        if parameters.enabled:
            train(splits["train"], shelf.truth["train"].open(), place)
        if not runtime.is_main_process():
            return
        predictor = Predictor(place / "weights.safetensors", detections, shelf.classifier)
        for name, split in splits.items():
            settings = parameters.model_dump()
            with InstanceWriter(place / name, "mask_rcnn_gt", split.classes, settings) as store:
                if parameters.enabled:
                    what = f"mask_rcnn_gt, {name}"
                    fill_together(store, predictor, split.path, split.photographs, what)
            print(f"mask_rcnn_gt: {store.rows} instances in {store.finished} {name} images")
        check_inputs(unfinished)
        shelf.publish(place, "mask_rcnn_gt")
    if not parameters.enabled:
        print("mask_rcnn_gt: off; set mask_rcnn_gt.enabled to train it")


def train(split: Split, truth: Truth, place: Path) -> None:
    """Train as mask_rcnn does, but on true masks; write weights, metrics and curves to a folder."""
    true_masks = TrueMasks(truth)
    parameters = match_steps(read_parameters(MaskRcnnParameters, "mask_rcnn"), split, true_masks)
    metrics = train_round("mask_rcnn_gt", split, true_masks, parameters, place, curves)
    if runtime.is_main_process():
        print(f"mask_rcnn_gt: {metrics['images']} images, loss {metrics['loss']:.3f}")


if __name__ == "__main__":
    run(main, memory="mask_rcnn.schedule.batch_size")
