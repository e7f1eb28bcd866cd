"""Train the classifier that shows peaks on the tags of the training images."""

from pipeline.classifier.training import PrmParameters, classifier_training
from pipeline.common import runtime
from pipeline.training.fit import fit
from pipeline.training.results import RESULTS, write_results
from stages.common.curves import curves
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read data/dataset/train.json, write data/prm."""
    parameters = read_parameters(PrmParameters, "prm")
    shelf = Shelf()
    split = shelf.splits["train"].open()
    training = classifier_training(split, parameters)
    with scratch("prm") as folder:
        means = fit(training, folder / "checkpoint.pt", curves(folder / "curves"))
        if runtime.is_main_process():
            write_results(folder, training.network, training.network.description, means)
            check_inputs(folder)
            for name in RESULTS:
                shelf.publish(folder / name, "prm", name)
            counts = f"{len(training.samples)} images, {len(split.classes)} classes"
            print(f"prm: {counts}, loss {means['loss']:.3f}")


if __name__ == "__main__":
    run(main)
