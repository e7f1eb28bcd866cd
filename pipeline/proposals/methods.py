"""Object proposals of photographs by any method: SharpMask, grouping, SAM 2, or an import."""

from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.artifacts.proposals import Proposals
from pipeline.artifacts.split import Photograph, Split
from pipeline.artifacts.weights import read_description
from pipeline.common.errors import InputError
from pipeline.common.progress import track
from pipeline.execution.photographs import map_photographs, map_together
from pipeline.proposals import sam
from pipeline.proposals.grouping import Grouper
from pipeline.proposals.imported import read_proposals
from pipeline.proposals.parameters import ProposalsParameters
from pipeline.proposals.sharpmask.inference import SharpMaskProposer
from pipeline.proposals.sharpmask.network import SharpMaskDescription


def supervision(parameters: ProposalsParameters) -> str:
    """Say in a few words what the method was trained on."""
    if parameters.method == "sharpmask":
        return read_description(Path(parameters.source), SharpMaskDescription).trained_on
    if parameters.method == "grouping":
        return "no masks: regions grouped by hand-set rules"
    if parameters.method == "sam":
        return sam.supervision(Path(parameters.source), parameters.supervision)
    return parameters.supervision


def propose(
    parameters: ProposalsParameters, split: Split, name: str, start: int
) -> Iterator[tuple[Photograph, Proposals]]:
    """Yield proposals for the photographs of a split, in its order, starting at index `start`.

    `name` is the name of the split, `train` or `val`.

    Raises
    ------
    InputError
        If the source of the method cannot be used, or a photograph cannot be read.
    """
    photographs = split.photographs[start:]
    what = f"proposals, {name}"
    if parameters.method == "import":
        imported = read_proposals(
            Path(parameters.source) / f"{name}.json", split, parameters.max_proposals
        )
        yield from track(((p, imported[p.id]) for p in photographs), len(photographs), what)
        return
    proposer = proposer_of(parameters)
    if isinstance(proposer, SharpMaskProposer):
        yield from map_together(proposer.together, split.path, photographs, what)
        return
    on_device = parameters.method == "sam"
    yield from map_photographs(proposer, split.path, photographs, what, on_device)


def proposer_of(parameters: ProposalsParameters) -> Callable[[Path], Proposals]:
    """Return the function that computes proposals for any photograph.

    Raises
    ------
    InputError
        If proposals are imported: there are none for new photographs.
    """
    if parameters.method == "import":
        raise InputError(
            "proposals.method = 'import': there are no imported proposals for new photographs; "
            "refinement needs sharpmask, grouping or sam"
        )
    if parameters.method == "grouping":
        return Grouper(parameters.grouping, parameters.max_proposals)
    if parameters.method == "sam":
        return sam.SamProposer(Path(parameters.source), parameters.sam, parameters.max_proposals)
    return SharpMaskProposer(
        Path(parameters.source), parameters.sharpmask, parameters.max_proposals
    )
