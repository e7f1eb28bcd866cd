"""Detect the instances of the val and train images."""

from pipeline.artifacts.instances import InstanceWriter
from pipeline.detectors.predictions import PredictionsParameters, Predictor
from pipeline.execution.photographs import fill_together
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read data/dataset and the weights of mask_rcnn and prm, write data/predictions."""
    parameters = read_parameters(PredictionsParameters, "predictions")
    shelf = Shelf()
    predictor = Predictor(shelf.detector, parameters, shelf.classifier)
    with scratch("predictions") as unfinished:
        place = unfinished / "predictions"
        for name in ("val", "train"):
            split = shelf.splits[name].open()
            settings = parameters.model_dump()
            with InstanceWriter(place / name, "predictions", split.classes, settings) as store:
                what = f"predictions, {name}"
                fill_together(store, predictor, split.path, split.photographs, what)
            print(f"predictions: {store.rows} instances in {len(split.photographs)} {name} images")
        check_inputs(unfinished)
        shelf.publish(place, "predictions")


if __name__ == "__main__":
    run(main, memory="predictions.max_detections")
