"""Train the detector on the pseudo masks that the sampler drew."""

import torch

from pipeline import runtime
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.files import write_json
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.artifacts.weights import write_weights
from pipeline.mask_rcnn import MaskRcnnParameters, PseudoMasks, mask_rcnn_loss
from pipeline.networks.mask_rcnn import MaskRcnn, MaskRcnnDescription
from pipeline.training import Places, fit
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
    with scratch("mask_rcnn") as unfinished:
        means = fit(
            network,
            mask_rcnn_loss(network),
            samples,
            parameters.schedule,
            parameters.seed,
            Places(unfinished / "checkpoint.pt", unfinished / "curves"),
            "mask_rcnn",
        )
        shelf = SHELF / "mask_rcnn"
        shelve(unfinished / "curves", shelf / "curves")
        write_weights(shelf / "weights.safetensors", network, description)
        counts = {"images": len(samples), "images_skipped": samples.skipped}
        write_json(shelf / "metrics.json", {**means, **counts}, indent=1)
    print(
        f"mask_rcnn: {len(samples)} images, {samples.skipped} without pseudo masks skipped, "
        f"loss {means['loss']:.3f}"
    )


if __name__ == "__main__":
    run(main)
