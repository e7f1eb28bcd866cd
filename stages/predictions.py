"""Detect the instances of the val and train images."""

from pathlib import Path

from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.split import Split
from pipeline.parallel import map_photographs
from pipeline.predictions import PredictionsParameters, Predictor
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/mask_rcnn/weights.safetensors and data/dataset, write data/predictions."""
    parameters = read_parameters(PredictionsParameters, "predictions")
    predictor = Predictor(SHELF / "mask_rcnn" / "weights.safetensors", parameters)
    with scratch("predictions") as unfinished:
        for name in ("val", "train"):
            split = Split.read(SHELF / "dataset" / f"{name}.json")
            count = detect(predictor, split, unfinished / name, parameters)
            shelve(unfinished / name, SHELF / "predictions" / name)
            print(f"predictions: {count} instances in {len(split.photographs)} {name} images")


def detect(
    predictor: Predictor, split: Split, place: Path, parameters: PredictionsParameters
) -> int:
    """Write the instances of a split's images that are not there yet; count all of them."""
    with InstanceWriter(place, "predictions", split.classes, parameters.model_dump()) as store:
        remaining = split.photographs[store.finished :]
        what = f"predictions, {place.name}"
        for photograph, instances in map_photographs(predictor, split.path, remaining, what):
            store.add(photograph.id, photograph.height, photograph.width, instances)
    return store.rows


if __name__ == "__main__":
    run(main)
