"""Train the detector on the pseudo masks that the sampler drew."""

from pipeline import runtime
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.mask_rcnn import MaskRcnnParameters, PseudoMasks, train
from pipeline.training import RESULTS, Places, write_results
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read the images, draws and proposals of train, write data/mask_rcnn."""
    parameters = read_parameters(MaskRcnnParameters, "mask_rcnn")
    split = Split.read(SHELF / "dataset" / "train.json")
    draws = DrawStore(SHELF / "sampler" / "train")
    proposals = ProposalStore(SHELF / "proposals" / "train")
    pseudo_masks = PseudoMasks(split, draws, proposals, parameters.schedule.epochs)
    with scratch("mask_rcnn") as folder:
        places = Places(folder / "checkpoint.pt", folder / "curves")
        network, metrics = train(split, pseudo_masks, parameters, places, "mask_rcnn")
        if runtime.is_main_process():
            write_results(folder, network, network.description, metrics)
            for name in RESULTS:
                shelve(folder / name, SHELF / "mask_rcnn" / name)
            print(
                f"mask_rcnn: {metrics['images']} images, {metrics['images_skipped']} without "
                f"pseudo masks skipped, loss {metrics['loss']:.3f}"
            )


if __name__ == "__main__":
    run(main)
