"""Train the proposal network on masks of other objects, if proposals come from it."""

from pathlib import Path

from pipeline.common import runtime
from pipeline.proposals.sharpmask.parameters import SharpMaskParameters
from pipeline.proposals.sharpmask.source import read_source
from pipeline.proposals.sharpmask.training import sharpmask_trainings
from pipeline.training.fit import fit
from pipeline.training.results import RESULTS, write_empty_results, write_results
from stages.common.curves import curves
from stages.common.parameters import read_parameters, read_value
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read the masks, write data/sharpmask; empty files if the network is not used."""
    parameters = read_parameters(SharpMaskParameters, "sharpmask")
    shelf = Shelf()
    method, origin = read_value("proposals.method"), str(read_value("proposals.source"))
    used = shelf.holds_sharpmask_of(method, origin)
    with scratch("sharpmask") as folder:
        if used:
            said = train(parameters, folder)
        else:
            write_empty_results(folder)
            said = "not trained: proposals.method and proposals.source do not ask for it"
        if runtime.is_main_process():
            check_inputs(folder)
            for name in RESULTS:
                shelf.publish(folder / name, "sharpmask", name)
            print(f"sharpmask: {said}")


def train(parameters: SharpMaskParameters, folder: Path) -> str:
    """Train both phases, write the results to a folder, and return a summary in one line."""
    source = read_source(Path(parameters.path))
    network, trainings = sharpmask_trainings(source, parameters)
    losses = {}
    for phase, training in zip(("deepmask", "sharpening"), trainings, strict=True):
        losses[phase] = fit(training, folder / f"{phase}.pt", curves(folder / "curves" / phase))
    if runtime.is_main_process():
        write_results(folder, network, network.description, losses)
    coarse, sharp = losses["deepmask"]["loss"], losses["sharpening"]["loss"]
    return f"{network.description.trained_on}, loss {coarse:.3f} of DeepMask, {sharp:.3f} sharpened"


if __name__ == "__main__":
    run(main, memory="sharpmask.deepmask.batch_size and sharpmask.sharpening.batch_size")
