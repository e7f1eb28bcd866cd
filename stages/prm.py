"""Train the classifier that shows peaks, from the tags of the training images."""

from pipeline import runtime
from pipeline.artifacts.split import Split
from pipeline.prm import PrmParameters, TaggedImages, prm_loss, untrained
from pipeline.training import RESULTS, Places, fit, write_results
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/dataset/train.json, write data/prm."""
    parameters = read_parameters(PrmParameters, "prm")
    split = Split.read(SHELF / "dataset" / "train.json")
    samples = TaggedImages(split, parameters.side, parameters.seed)
    runtime.seed_everything(parameters.seed)
    network = untrained(split, parameters)
    with scratch("prm") as folder:
        means = fit(
            network,
            prm_loss(network, parameters.peak_gradient),
            samples,
            parameters.schedule,
            parameters.seed,
            Places(folder / "checkpoint.pt", folder / "curves"),
            "prm",
        )
        if runtime.is_main_process():
            write_results(folder, network, network.description, means)
            for name in RESULTS:
                shelve(folder / name, SHELF / "prm" / name)
            counts = f"{len(samples)} images, {len(split.classes)} classes"
            print(f"prm: {counts}, loss {means['loss']:.3f}")


if __name__ == "__main__":
    run(main)
