"""Object proposals: masks with objectness scores, in descending order of score."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.ragged import Column, RaggedStore, RaggedWriter, Schema
from pipeline.common import masks
from pipeline.common.masks import Rle

SCHEMA = Schema(
    row="proposal",
    columns={
        "mask": Column("u1", "COCO run-length code, compressed", nested="mask_byte"),
        "score": Column("f4", "objectness, 0 to 1, descending within an image"),
    },
)


@dataclass(frozen=True)
class Proposals:
    """The n proposals of an image.

    masks : n masks of the size of the image.
    score : float32 (n,), objectness from 0 to 1, descending.
    """

    masks: list[Rle]
    score: NDArray[np.float32]


class ProposalWriter(RaggedWriter):
    """Writes a proposal store.

    Parameters
    ----------
    method : that computed the proposals.
    supervision : what the method was trained on.
    """

    def __init__(
        self, path: Path, method: str, supervision: str, parameters: Mapping[str, Any]
    ) -> None:
        attributes = {"method": method, "supervision": supervision, "parameters": parameters}
        super().__init__(path, SCHEMA, {"stage": "proposals", **attributes})

    def add(self, image_id: str, height: int, width: int, proposals: Proposals) -> None:
        """Add an image and its proposals."""
        values = {"mask": masks.to_counts(proposals.masks), "score": proposals.score}
        self.append(image_id, height, width, values)


class ProposalStore(RaggedStore):
    """A proposal store, opened for reading."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)

    def proposals(self, image_id: str) -> Proposals:
        """Read the proposals of an image."""
        values = self.read(image_id)
        return Proposals(masks.from_counts(values["mask"], *self.size(image_id)), values["score"])
