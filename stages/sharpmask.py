"""Train the proposal network on a source of masks of any objects."""

from pathlib import Path

from pipeline import runtime
from pipeline.datasets.coco import read_source
from pipeline.sharpmask import SharpMaskParameters, train
from pipeline.training import RESULTS, write_results
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read the source, write data/sharpmask."""
    parameters = read_parameters(SharpMaskParameters, "sharpmask")
    source = read_source(Path(parameters.path))
    with scratch("sharpmask") as folder:
        network, description, losses = train(source, parameters, folder)
        if runtime.is_main_process():
            write_results(folder, network, description, losses)
            for name in RESULTS:
                shelve(folder / name, SHELF / "sharpmask" / name)
            coarse, sharp = losses["deepmask"]["loss"], losses["sharpening"]["loss"]
            print(
                f"sharpmask: {description.trained_on}, loss {coarse:.3f} of DeepMask, "
                f"{sharp:.3f} of sharpening"
            )


if __name__ == "__main__":
    run(main)
