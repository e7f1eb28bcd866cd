"""Train the detector on pseudo masks: the sampler's draws, or what community found."""

from pipeline.artifacts.split import Split
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.detectors.mask_rcnn.rounds import train_rounds
from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters
from pipeline.pseudo_masks.self_training import Alternating, TaggedDetections
from pipeline.pseudo_masks.supervision import PseudoMasks, Supervision
from pipeline.training.results import RESULTS
from stages.common.curves import curves
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read the images and pseudo masks of train, write data/mask_rcnn."""
    parameters = read_parameters(MaskRcnnParameters, "mask_rcnn")
    shelf = Shelf()
    split = shelf.splits["train"].open()
    pseudo_masks = open_pseudo_masks(shelf, split, parameters)
    with scratch("mask_rcnn") as unfinished:
        proposals = shelf.proposals["train"].path
        folder, metrics = train_rounds(
            split, pseudo_masks, proposals, parameters, unfinished, curves
        )
        if runtime.is_main_process():
            check_inputs(unfinished)
            for name in RESULTS:
                shelf.publish(folder / name, "mask_rcnn", name)
            print(
                f"mask_rcnn: {metrics['images']} images, {metrics['images_skipped']} without "
                f"pseudo masks skipped, loss {metrics['loss']:.3f}"
            )


def open_pseudo_masks(shelf: Shelf, split: Split, parameters: MaskRcnnParameters) -> Supervision:
    """Open what the first round is trained on, or raise InputError if there is none."""
    if parameters.pseudo_masks == "sampler":
        return drawn(shelf, split, parameters)
    store = shelf.community_predictions["train"].open()
    if not store.attributes["parameters"]["enabled"]:
        raise InputError(
            f"mask_rcnn.pseudo_masks = {parameters.pseudo_masks}, but community is off; set "
            "community.enabled, or mask_rcnn.pseudo_masks to sampler"
        )
    found = TaggedDetections(split, store, parameters.min_relative_score)
    if not any(photograph.id in found for photograph in split.photographs):
        raise InputError(f"{store.path}: no image has an instance of a tag: nothing to train on")
    if parameters.pseudo_masks == "community":
        return found
    return Alternating(drawn(shelf, split, parameters), found)


def drawn(shelf: Shelf, split: Split, parameters: MaskRcnnParameters) -> PseudoMasks:
    """Open the draws of the sampler."""
    draws, proposals = shelf.draws.open(), shelf.proposals["train"].open()
    return PseudoMasks(split, draws, proposals, parameters.schedule.epochs)


if __name__ == "__main__":
    run(main, memory="mask_rcnn.schedule.batch_size")
