"""The instances that a detector is trained on, whatever their source."""

from typing import Protocol

from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import Instances
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.common.errors import InputError


class Supervision(Protocol):
    """The instances that a detector is trained on, whatever their source."""

    def __contains__(self, image_id: object, /) -> bool:
        """Whether an image has instances. Others are not trained on."""
        ...

    def instances(self, image_id: str, epoch: int, /) -> Instances:
        """Return the instances of an image in an epoch."""
        ...

    def alternatives(self, image_id: str, /) -> Instances:
        """Return further masks of an image that may be objects, so they are not background."""
        ...


class PseudoMasks:
    """The proposals drawn for the peaks of a split's images, a new draw at each epoch.

    Raises
    ------
    InputError
        If there are no draws, or fewer draws than epochs.
    """

    def __init__(
        self, split: Split, draws: DrawStore, proposals: ProposalStore, epochs: int
    ) -> None:
        self._proposals = proposals
        of_all = {photograph.id: draws.draws(photograph.id) for photograph in split.photographs}
        self._drawn = {image_id: drawn for image_id, drawn in of_all.items() if len(drawn.label)}
        if not self._drawn:
            raise InputError(f"{draws.path}: no image has a draw; there is nothing to train on")
        _check_draws(draws, next(iter(self._drawn.values())).draw.shape[1], epochs)

    def __contains__(self, image_id: object, /) -> bool:
        return image_id in self._drawn

    def instances(self, image_id: str, epoch: int, /) -> Instances:
        """Return the pseudo masks of an image in an epoch."""
        return self._drawn[image_id].instances(self._proposals.proposals(image_id), epoch)

    def alternatives(self, image_id: str, /) -> Instances:
        """Return the likely candidates of all peaks of an image, the drawn ones among them."""
        return self._drawn[image_id].likely(self._proposals.proposals(image_id))


def _check_draws(draws: DrawStore, drawn: int, epochs: int) -> None:
    if drawn < epochs:
        raise InputError(
            f"{draws.path}: {drawn} draws per peak, but schedule.epochs = {epochs}; "
            "lower it, or raise sampler.draws_per_peak"
        )
