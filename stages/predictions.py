"""Detect the instances of the val and train images."""

from pathlib import Path

from pipeline import runtime
from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.split import Split
from pipeline.parallel import ordered_map
from pipeline.predictions import PredictionsParameters, Predictor
from pipeline.progress import track
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
    """Write the instances of a split's images that are not there yet, and count these."""
    count = 0
    with InstanceWriter(place, "predictions", split.classes, parameters.model_dump()) as store:
        photographs = split.photographs[store.finished :]
        files = [Path(split.root) / photograph.file for photograph in photographs]
        found = ordered_map(predictor, files, runtime.workers())
        shown = track(found, len(files), f"predictions, {place.name}")
        for photograph, instances in zip(photographs, shown, strict=True):
            store.add(photograph.id, photograph.height, photograph.width, instances)
            count += len(instances.score)
    return count


if __name__ == "__main__":
    run(main)
