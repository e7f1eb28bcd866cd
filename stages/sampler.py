"""Draw a proposal for each peak, once per epoch of the detector's training."""

from operator import attrgetter

from pipeline.artifacts.coco import CocoAnnotations
from pipeline.artifacts.draws import DrawStore, DrawWriter
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.execution.photographs import fill
from pipeline.pseudo_masks.sampler import Sampler, SamplerParameters
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read data/peaks/train and data/proposals/train, write data/sampler."""
    parameters = read_parameters(SamplerParameters, "sampler")
    shelf = Shelf()
    split, proposals = shelf.splits["train"].open(), shelf.proposals["train"]
    sampler = Sampler(shelf.peaks.path, proposals.path, parameters)
    with scratch("sampler") as unfinished:
        place = unfinished / "sampler"
        with DrawWriter(place / "train", split.classes, parameters.model_dump()) as store:
            fill(store, sampler, attrgetter("id"), split.photographs, "sampler")
        pseudo_masks = first_epoch(split, DrawStore(place / "train"), proposals.open())
        pseudo_masks.write(place / "pseudo_masks.json")
        check_inputs(unfinished)
        shelf.publish(place, "sampler")
    print(
        f"sampler: {store.rows} peaks with candidates in {len(split.photographs)} images, "
        f"{store.empty} images without; {len(pseudo_masks)} pseudo masks in the first epoch"
    )


def first_epoch(split: Split, draws: DrawStore, proposals: ProposalStore) -> CocoAnnotations:
    """Collect the pseudo masks of the first epoch."""
    pseudo_masks = CocoAnnotations(split.classes, "WISE pseudo masks of the first epoch")
    for photograph in split.photographs:
        image_draws = draws.draws(photograph.id)
        instances = image_draws.instances(proposals.proposals(photograph.id), epoch=0)
        height, width = photograph.height, photograph.width
        pseudo_masks.add(photograph.file, height, width, instances.masks, instances.label)
    return pseudo_masks


if __name__ == "__main__":
    run(main)
