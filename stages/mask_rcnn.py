"""Train the detector on the pseudo masks that the sampler drew."""

import torch

from pipeline import runtime
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.mask_rcnn import MaskRcnnParameters, PseudoMasks, mask_rcnn_loss
from pipeline.networks.mask_rcnn import MaskRcnn, MaskRcnnDescription
from pipeline.training import RESULTS, Places, fit, write_results
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read the images, draws and proposals of train, write data/mask_rcnn."""
    parameters = read_parameters(MaskRcnnParameters, "mask_rcnn")
    split = Split.read(SHELF / "dataset" / "train.json")
    draws = DrawStore(SHELF / "sampler" / "train")
    proposals = ProposalStore(SHELF / "proposals" / "train")
    samples = PseudoMasks(split, draws, proposals, parameters)
    runtime.seed_everything(parameters.seed)
    description = MaskRcnnDescription(classes=split.classes, architecture=parameters.architecture)
    network = MaskRcnn(description, parameters.weights).to(runtime.device())
    network.to(memory_format=torch.channels_last)
    with scratch("mask_rcnn") as folder:
        means = fit(
            network,
            mask_rcnn_loss(network),
            samples,
            parameters.schedule,
            parameters.seed,
            Places(folder / "checkpoint.pt", folder / "curves"),
            "mask_rcnn",
        )
        if runtime.is_main_process():
            counts = {"images": len(samples), "images_skipped": samples.skipped}
            write_results(folder, network, description, {**means, **counts})
            for name in RESULTS:
                shelve(folder / name, SHELF / "mask_rcnn" / name)
            print(
                f"mask_rcnn: {len(samples)} images, {samples.skipped} without pseudo masks "
                f"skipped, loss {means['loss']:.3f}"
            )


if __name__ == "__main__":
    run(main)
