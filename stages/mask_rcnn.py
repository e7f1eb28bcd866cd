"""Train the detector on the pseudo masks that the sampler drew."""

from pipeline.common import runtime
from pipeline.detectors.mask_rcnn.rounds import train_rounds
from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters
from pipeline.pseudo_masks.supervision import PseudoMasks
from pipeline.training.results import RESULTS
from stages.common.curves import curves
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read the images, draws and proposals of train, write data/mask_rcnn."""
    parameters = read_parameters(MaskRcnnParameters, "mask_rcnn")
    shelf = Shelf()
    split = shelf.splits["train"].open()
    draws, proposals = shelf.draws.open(), shelf.proposals["train"].open()
    pseudo_masks = PseudoMasks(split, draws, proposals, parameters.schedule.epochs)
    with scratch("mask_rcnn") as unfinished:
        folder, metrics = train_rounds(split, pseudo_masks, parameters, unfinished, curves)
        if runtime.is_main_process():
            check_inputs(unfinished)
            for name in RESULTS:
                shelf.publish(folder / name, "mask_rcnn", name)
            print(
                f"mask_rcnn: {metrics['images']} images, {metrics['images_skipped']} without "
                f"pseudo masks skipped, loss {metrics['loss']:.3f}"
            )


if __name__ == "__main__":
    run(main)
