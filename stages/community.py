"""Train detection and segmentation together on tags and the boxes of proposals, if enabled."""

from pathlib import Path

from pipeline.common import runtime
from pipeline.community.regions import ProposalBoxes
from pipeline.community.training import CommunityParameters, community_training
from pipeline.training.fit import fit
from pipeline.training.results import RESULTS, write_empty_results, write_results
from stages.common.curves import curves
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read the images and proposals of train, write data/community; empty files if it is off."""
    parameters = read_parameters(CommunityParameters, "community")
    shelf = Shelf()
    with scratch("community") as folder:
        if parameters.enabled:
            said = train(shelf, parameters, folder)
        else:
            write_empty_results(folder)
            said = "off; set community.enabled to train it"
        if runtime.is_main_process():
            check_inputs(folder)
            for name in RESULTS:
                shelf.publish(folder / name, "community", name)
            print(f"community: {said}")


def train(shelf: Shelf, parameters: CommunityParameters, folder: Path) -> str:
    """Train the network, write the results to a folder, and return a line that sums them up."""
    split = shelf.splits["train"].open()
    boxes = ProposalBoxes(shelf.proposals["train"].open())
    training = community_training(split, boxes, parameters)
    losses = fit(training, folder / "checkpoint.pt", curves(folder / "curves"))
    images = len(training.samples)
    skipped = len(split.photographs) - images
    if runtime.is_main_process():
        metrics = {**losses, "images": images, "images_skipped": skipped}
        write_results(folder, training.network, training.network.description, metrics)
    return f"{images} images, {skipped} without proposals skipped, loss {losses['loss']:.3f}"


if __name__ == "__main__":
    run(main, memory="community.schedule.batch_size")
