"""Train the classifier on the tags of the training images."""

from pathlib import Path

from pipeline.artifacts.split import Split
from pipeline.classifier.features import compute_features, digest
from pipeline.classifier.network import Prm
from pipeline.classifier.training import (
    PrmParameters,
    fine_tuning,
    head_training,
    is_frozen,
    others_for,
    untrained,
)
from pipeline.common import runtime
from pipeline.dataset.others import with_others
from pipeline.training.fit import Training, fit
from pipeline.training.results import RESULTS, write_results
from stages.common.curves import curves
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, kept_scratch, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read data/dataset/train.json and the photographs without a class, write data/prm."""
    parameters = read_parameters(PrmParameters, "prm")
    shelf = Shelf()
    split = shelf.splits["train"].open()
    tagged = len(split.photographs)
    with scratch("prm") as folder:
        if Path(parameters.others).is_dir():
            split = with_others(split, Path(parameters.others), folder)
        training = _training(split, parameters)
        means = fit(training, folder / "checkpoint.pt", curves(folder / "curves"))
        if runtime.is_main_process():
            others = len(training.samples) - tagged
            metrics = {**means, "others": others} if others else means
            write_results(folder, training.network, training.network.description, metrics)
            check_inputs(folder)
            for name in RESULTS:
                shelf.publish(folder / name, "prm", name)
            if others:
                print(f"prm: {others} images of {parameters.others} besides, without a class")
            counts = f"{tagged} images, {len(split.classes)} classes"
            print(f"prm: {counts}, loss {means['loss']:.3f}")


def _training(split: Split, parameters: PrmParameters) -> Training[Prm]:
    others = others_for(split, parameters)
    network = untrained(split, parameters, len(others) if others else 0)
    if not is_frozen(parameters):
        return fine_tuning(network, split, parameters)
    with kept_scratch("prm", digest(network, split)) as folder:
        features = compute_features(network, split, folder)
    return head_training(network, split, parameters, features, others)


if __name__ == "__main__":
    run(main, memory="prm.schedule.batch_size")
