"""Train the classifier that shows peaks, from the tags of the training images."""

import torch

from pipeline import runtime
from pipeline.artifacts.files import write_json
from pipeline.artifacts.split import Split
from pipeline.artifacts.weights import write_weights
from pipeline.networks.prm import Prm, PrmDescription
from pipeline.prm import PrmParameters, TaggedImages, prm_loss
from pipeline.training import Places, fit
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/dataset/train.json, write data/prm."""
    parameters = read_parameters(PrmParameters, "prm")
    split = Split.read(SHELF / "dataset" / "train.json")
    samples = TaggedImages(split, parameters.side, parameters.seed)
    runtime.seed_everything(parameters.seed)
    description = PrmDescription(
        backbone=parameters.backbone,
        classes=split.classes,
        side=parameters.side,
        upsample=parameters.upsample,
    )
    network = Prm(description, parameters.weights).to(runtime.device())
    network.to(memory_format=torch.channels_last)
    with scratch("prm") as unfinished:
        means = fit(
            network,
            prm_loss(network, parameters.peak_gradient),
            samples,
            parameters.schedule,
            parameters.seed,
            Places(unfinished / "checkpoint.pt", unfinished / "curves"),
            "prm",
        )
        shelf = SHELF / "prm"
        shelve(unfinished / "curves", shelf / "curves")
        write_weights(shelf / "weights.safetensors", network, description)
        write_json(shelf / "metrics.json", means, indent=1)
    print(f"prm: {len(samples)} images, {len(split.classes)} classes, loss {means['loss']:.3f}")


if __name__ == "__main__":
    run(main)
