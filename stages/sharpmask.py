"""Train the proposal network on a source of masks of any objects."""

from pathlib import Path

from pipeline.common import runtime
from pipeline.proposals.sharpmask.parameters import SharpMaskParameters
from pipeline.proposals.sharpmask.source import read_source
from pipeline.proposals.sharpmask.training import sharpmask_trainings
from pipeline.training.fit import fit
from pipeline.training.results import RESULTS, write_results
from stages.common.curves import curves
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read the source, write data/sharpmask."""
    parameters = read_parameters(SharpMaskParameters, "sharpmask")
    shelf = Shelf()
    source = read_source(Path(parameters.path))
    network, trainings = sharpmask_trainings(source, parameters)
    losses = {}
    with scratch("sharpmask") as folder:
        for phase, training in zip(("deepmask", "sharpening"), trainings, strict=True):
            checkpoint = folder / f"{phase}.pt"
            losses[phase] = fit(training, checkpoint, curves(folder / "curves" / phase))
        if runtime.is_main_process():
            write_results(folder, network, network.description, losses)
            for name in RESULTS:
                shelf.publish(folder / name, "sharpmask", name)
            coarse, sharp = losses["deepmask"]["loss"], losses["sharpening"]["loss"]
            print(
                f"sharpmask: {network.description.trained_on}, loss {coarse:.3f} of DeepMask, "
                f"{sharp:.3f} of sharpening"
            )


if __name__ == "__main__":
    run(main)
