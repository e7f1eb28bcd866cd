"""Proposes masks for all photographs, with the trained SharpMask."""

from pathlib import Path

from pipeline import runtime
from pipeline.artifacts.proposals import ProposalWriter
from pipeline.artifacts.split import Split
from pipeline.parallel import ordered_map
from pipeline.progress import track
from pipeline.proposals import ProposalsParameters, SharpMaskProposer, supervision
from stages import SHELF, read_parameters, run, scratch, shelve

WEIGHTS = SHELF / "sharpmask" / "weights.safetensors"


def main() -> None:
    """From the photographs of both splits to their proposals."""
    parameters = read_parameters(ProposalsParameters, "proposals")
    proposer = SharpMaskProposer(WEIGHTS, parameters)
    with scratch("proposals") as folder:
        for name in ("train", "val"):
            split = Split.read(SHELF / "dataset" / f"{name}.json")
            write_proposals(folder / name, split, proposer)
            print(f"{name}: proposals of {len(split.photographs)} photographs")
        for name in ("train", "val"):
            shelve(folder / name, SHELF / "proposals" / name)


def write_proposals(store: Path, split: Split, proposer: SharpMaskProposer) -> None:
    """Write the proposals of a split's photographs, or go on where that was left."""
    source = supervision(proposer.weights)
    parameters = proposer.parameters.model_dump()
    with ProposalWriter(store, proposer.parameters.method, source, parameters) as writer:
        to_do = split.photographs[writer.finished :]
        paths = [Path(split.root) / photograph.file for photograph in to_do]
        found = ordered_map(proposer, paths, runtime.workers())
        progress = track(zip(to_do, found, strict=True), len(to_do), f"proposals, {split.root}")
        for photograph, proposals in progress:
            writer.add(photograph.id, photograph.height, photograph.width, proposals)


if __name__ == "__main__":
    run(main)
