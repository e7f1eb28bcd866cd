"""Compare weights files of SharpMask: `python -m benchmarks.sharpmask WEIGHTS...`.

Computes the proposals of those evaluation photographs that show an object of the dataset's
classes, with the parameters of params.yaml, and prints their quality with each of the files.

Example: wise preset voc2012-animals-best && dvc repro dataset && python -m benchmarks.sharpmask \
data/sharpmask/weights.safetensors weights/sharpmask.safetensors
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts.proposals import Proposals
from pipeline.common import runtime
from pipeline.evaluation.stage_quality import proposal_quality
from pipeline.execution.photographs import map_photographs
from pipeline.proposals.parameters import ProposalsParameters
from pipeline.proposals.sharpmask.inference import SharpMaskProposer
from stages.common.parameters import read_parameters
from stages.common.shelf import Shelf

METRICS = ("overlap@10", "overlap@100", "overlap@1000", "AR@100", "above50", "above75")


class Computed:
    """Proposals of photographs, held in memory."""

    def __init__(self, of: dict[str, Proposals]) -> None:
        self.proposals = of.__getitem__


def main(files: Sequence[str]) -> None:
    """Print a table of the quality with each weights file."""
    runtime.keep_freed_memory()
    parameters = read_parameters(ProposalsParameters, "proposals")
    shelf = Shelf()
    split, truth = shelf.splits["val"].open(), shelf.truth["val"].open()
    shown = truth.model_copy(update={"images": tuple(i for i in truth.images if i.instances)})
    names = {image.id for image in shown.images}
    photographs = [photograph for photograph in split.photographs if photograph.id in names]
    print(f"{len(photographs)} photographs, {sum(len(i.instances) for i in shown.images)} objects")
    print("| weights | MB |", " | ".join(METRICS), "|")
    for file in files:
        proposer = SharpMaskProposer(Path(file), parameters.sharpmask, parameters.max_proposals)
        found = map_photographs(proposer, split.path, photographs, file)
        quality = proposal_quality(shown, Computed({p.id: of for p, of in found}))
        values = " | ".join(f"{quality[name]:.2f}" for name in METRICS)
        print(f"| {file} | {Path(file).stat().st_size / 1e6:.1f} | {values} |")


if __name__ == "__main__":
    main(sys.argv[1:])
