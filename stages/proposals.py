"""Propose masks for all photographs: with the trained SharpMask, by grouping, or from a file."""

from pipeline.artifacts.proposals import ProposalWriter
from pipeline.artifacts.split import Split
from pipeline.proposals import ProposalsParameters, propose, supervision
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/dataset and the source of the method, write data/proposals."""
    parameters = read_parameters(ProposalsParameters, "proposals")
    seen, settings = supervision(parameters), parameters.model_dump(mode="json")
    with scratch("proposals") as unfinished:
        place = unfinished / "proposals"
        for name in ("train", "val"):
            split = Split.read(SHELF / "dataset" / f"{name}.json")
            with ProposalWriter(place / name, parameters.method, seen, settings) as store:
                proposed = propose(parameters, split, name, start=store.finished)
                for photograph, proposals in proposed:
                    store.add(photograph.id, photograph.height, photograph.width, proposals)
            images = f"{len(split.photographs)} {name} images, {store.empty} without any"
            print(f"proposals: {store.rows} in {images}")
        shelve(place, SHELF / "proposals")
    print(f"proposals: {parameters.method}, which has seen {seen}")


if __name__ == "__main__":
    run(main)
