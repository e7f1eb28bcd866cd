"""Propose masks for all photographs with SharpMask, by grouping, with SAM 2, or from files."""

from pipeline.artifacts.proposals import ProposalWriter
from pipeline.proposals.methods import propose, supervision
from pipeline.proposals.parameters import ProposalsParameters
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read data/dataset and the source of the method, write data/proposals."""
    parameters = read_parameters(ProposalsParameters, "proposals")
    shelf = Shelf()
    seen, settings = supervision(parameters), parameters.model_dump(mode="json")
    with scratch("proposals") as unfinished:
        place = unfinished / "proposals"
        for name in ("train", "val"):
            split = shelf.splits[name].open()
            with ProposalWriter(place / name, parameters.method, seen, settings) as store:
                proposed = propose(parameters, split, name, start=store.finished)
                for photograph, proposals in proposed:
                    store.add(photograph.id, photograph.height, photograph.width, proposals)
            images = f"{len(split.photographs)} {name} images, {store.empty} without any"
            print(f"proposals: {store.rows} in {images}")
        check_inputs(unfinished)
        shelf.publish(place, "proposals")
    print(f"proposals: {parameters.method}; trained on: {seen}")


if __name__ == "__main__":
    run(main, memory="proposals.sharpmask.max_scale")
