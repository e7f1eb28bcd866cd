"""The regions of photographs: the boxes of their proposals."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts.proposals import Proposals, ProposalStore
from pipeline.common import masks
from pipeline.common.errors import InputError

DIVISOR = 16  # sides are multiples of it, so that no feature map has a partial cell


def boxes_of(proposals: Proposals) -> Tensor:
    """Return the boxes of proposals, float32 (r, 4), x1 y1 x2 y2 in pixels."""
    return torch.from_numpy(masks.corners(proposals.masks).astype(np.float32))


class BoxSource(Protocol):
    """The boxes of the regions of each image, whatever their source."""

    def __contains__(self, image_id: object, /) -> bool:
        """Whether an image has boxes. Others are not trained on."""
        ...

    def boxes(self, image_id: str, /) -> Tensor:
        """Return the boxes of an image, best first, float32 (r, 4), x1 y1 x2 y2 in pixels."""
        ...


class ProposalBoxes:
    """The boxes of the proposals of each image of a store, best first.

    Raises
    ------
    InputError
        If no image has a proposal.
    """

    def __init__(self, proposals: ProposalStore) -> None:
        self._proposals = proposals
        if not any(image_id in self for image_id in proposals):
            raise InputError(f"{proposals.path}: no image has a proposal: there is no region")

    def __contains__(self, image_id: object, /) -> bool:
        return isinstance(image_id, str) and bool(
            len(self._proposals.read(image_id, ["score"])["score"])
        )

    def boxes(self, image_id: str, /) -> Tensor:
        """Return the boxes of an image, float32 (r, 4), x1 y1 x2 y2 in pixels."""
        return boxes_of(self._proposals.proposals(image_id))


def scaled(boxes: Tensor, size: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """Scale boxes (r, 4) of an image of a size (height, width) to an image of another size."""
    factor = [to[1] / size[1], to[0] / size[0]] * 2
    return boxes * torch.tensor(factor, dtype=boxes.dtype, device=boxes.device)
