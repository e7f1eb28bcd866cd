"""Propose masks for all photographs, with the trained SharpMask."""

from pathlib import Path

from pipeline.artifacts.proposals import ProposalWriter
from pipeline.artifacts.split import Split
from pipeline.parallel import map_photographs
from pipeline.proposals import ProposalsParameters, SharpMaskProposer, supervision
from stages import SHELF, read_parameters, run, scratch, shelve

WEIGHTS = SHELF / "sharpmask" / "weights.safetensors"


def main() -> None:
    """Read data/dataset and data/sharpmask/weights.safetensors, write data/proposals."""
    parameters = read_parameters(ProposalsParameters, "proposals")
    proposer = SharpMaskProposer(WEIGHTS, parameters)
    with scratch("proposals") as folder:
        for name in ("train", "val"):
            split = Split.read(SHELF / "dataset" / f"{name}.json")
            count = write_proposals(folder / name, split, proposer)
            print(f"proposals: {count} in {len(split.photographs)} {name} images")
        for name in ("train", "val"):
            shelve(folder / name, SHELF / "proposals" / name)


def write_proposals(place: Path, split: Split, proposer: SharpMaskProposer) -> int:
    """Write the proposals of a split's images that are not there yet; count all of them."""
    source = supervision(proposer.weights)
    parameters = proposer.parameters.model_dump()
    with ProposalWriter(place, proposer.parameters.method, source, parameters) as store:
        remaining = split.photographs[store.finished :]
        what = f"proposals, {place.name}"
        for photograph, proposals in map_photographs(proposer, split.path, remaining, what):
            store.add(photograph.id, photograph.height, photograph.width, proposals)
    return store.rows


if __name__ == "__main__":
    run(main)
