"""Detect the instances of the val and train images."""

from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.split import Split
from pipeline.parallel import fill
from pipeline.predictions import PredictionsParameters, Predictor
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/dataset and the weights of mask_rcnn and prm, write data/predictions."""
    parameters = read_parameters(PredictionsParameters, "predictions")
    weights, of_classifier = (SHELF / n / "weights.safetensors" for n in ("mask_rcnn", "prm"))
    predictor = Predictor(weights, parameters, of_classifier)
    with scratch("predictions") as unfinished:
        place = unfinished / "predictions"
        for name in ("val", "train"):
            split = Split.read(SHELF / "dataset" / f"{name}.json")
            settings = parameters.model_dump()
            with InstanceWriter(place / name, "predictions", split.classes, settings) as store:
                fill(store, predictor, split.path, split.photographs, f"predictions, {name}")
            print(f"predictions: {store.rows} instances in {len(split.photographs)} {name} images")
        shelve(place, SHELF / "predictions")


if __name__ == "__main__":
    run(main)
