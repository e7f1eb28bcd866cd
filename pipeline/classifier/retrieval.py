"""The baseline without a detector: for every peak the proposal that fits it best.

PRM (Zhou et al., CVPR 2018), 3.3, instance retrieval. All is measured in the classifier's input, a
square of its `side` in pixels, into which photographs, maps and proposals are warped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from scipy.ndimage import morphological_gradient
from torch import Tensor

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.peaks import Peaks, PeakStore
from pipeline.artifacts.proposals import Proposals, ProposalStore
from pipeline.artifacts.ragged import opened
from pipeline.artifacts.split import Photograph, Split
from pipeline.classifier.inference import as_input, classifier
from pipeline.classifier.network import peak_scores
from pipeline.classifier.peaks import PeaksParameters, locate
from pipeline.common import masks
from pipeline.common.images import read_image
from pipeline.common.masks import Rle
from pipeline.common.parameters import Parameters

# Pixels, of the window of the morphological gradient.
CONTOUR = 5


class RetrievalParameters(Parameters):
    """Which proposal a peak is given. In brackets the released code's values."""

    renamed: ClassVar[Mapping[str, str]] = {
        "least_peak": "min_peak_height",
        "candidates": "max_candidates",
        "smallest": "min_area",
        "largest": "max_area",
        "background": "background_threshold",
        "nms": "nms_threshold",
    }

    min_peak_height: float = Field(description="least height of a peak, a logit (30)")
    max_candidates: PositiveInt = Field(description="proposals of an image, the best ones (100)")
    min_area: float = Field(ge=0, le=1, description="their least area, a share of the image (2e-5)")
    max_area: float = Field(ge=0, le=1, description="what their area must be below (0.85)")
    balance: NonNegativeFloat = Field(
        description="weight of the response inside of a mask beside that on its contour (0.8)"
    )
    penalty: NonNegativeFloat = Field(description="of a pixel of background in a mask (1e-5)")
    background_threshold: PositiveFloat = Field(
        description="a pixel is background below so many parts of its class map's mean (0.95)"
    )
    nms_threshold: float = Field(
        gt=0, le=1, description="mask IoU above which the lower-scored of two goes (0.3)"
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.min_area >= self.max_area:
            raise ValueError("min_area is not below max_area")
        return self


class PhotographFile(NamedTuple):
    """A photograph's id and file."""

    id: str
    file: Path

    @classmethod
    def of(cls, split: Split, photograph: Photograph) -> "PhotographFile":
        """Those of a photograph of a split."""
        return cls(photograph.id, split.path(photograph))


@dataclass(frozen=True)
class Retriever:
    """Retrieves the instances of photographs.

    weights : the classifier's file.
    proposals : the store of the photographs' proposals.
    peaks : the store of their peaks; where there is none, how to find those of the classes that
        the classifier sees, of a logit of at least 0.
    """

    weights: Path
    proposals: Path
    peaks: Path | PeaksParameters
    parameters: RetrievalParameters

    def __call__(self, photograph: PhotographFile) -> Instances:
        """Retrieve the instances of one photograph."""
        network = classifier(self.weights)
        image = read_image(photograph.file)
        with torch.inference_mode():
            maps = network(as_input(network, image))[0].float().cpu()
        if isinstance(self.peaks, Path):
            peaks = opened(PeakStore, self.peaks).peaks(photograph.id)
        else:
            seen = (_logits(maps) >= 0).nonzero()[:, 0]
            peaks = locate(network, image, seen.tolist(), self.peaks)
        proposals = opened(ProposalStore, self.proposals).proposals(photograph.id)
        side = network.description.image_size
        return retrieve(peaks, maps, proposals, side, self.parameters)


def retrieve(
    peaks: Peaks, maps: Tensor, proposals: Proposals, side: int, parameters: RetrievalParameters
) -> Instances:
    """Give every peak the candidate of highest score, and suppress what overlaps a better one.

    Parameters
    ----------
    maps : class response maps of the image, float (C, h, w).
    side : of the classifier's input, in pixels.

    Returns
    -------
    Instances whose score is the probability of the class times the score of the retrieval, as a
    part of the highest that there can be, and 0 where that is negative.
    """
    rles = _candidates(proposals, parameters)
    numbers = np.flatnonzero(peaks.value >= parameters.min_peak_height)
    if not rles or not len(numbers):
        return Instances([], np.zeros(0, np.int16), np.zeros(0, np.float32))
    label = peaks.label[numbers]
    of_pairs = scores(
        warp_masks(rles, side),
        torch.from_numpy(peaks.response[numbers]),
        background(maps, side, parameters.background_threshold)[label.astype(np.int64)],
        parameters,
    )
    best, retrieved = of_pairs.argmax(axis=0), of_pairs.max(axis=0)
    order = np.argsort(-retrieved, kind="stable")
    order = order[masks.nms([rles[best[k]] for k in order], parameters.nms_threshold)]
    probability = torch.sigmoid(_logits(maps)).numpy()[label]
    # All of a response inside, all of it on the contour, and no background.
    highest = parameters.balance + 1
    confidence = (probability * retrieved.clip(0, highest) / highest).astype(np.float32)
    order = order[np.argsort(-confidence[order], kind="stable")]
    return Instances([rles[best[k]] for k in order], label[order], confidence[order])


def scores(
    shapes: NDArray[np.uint8],
    responses: Tensor,
    backgrounds: Tensor,
    parameters: RetrievalParameters,
) -> NDArray[np.float32]:
    """Score every mask for every peak (PRM 3.3).

    What responds in a cell of a response map is taken as spread evenly over it.

    Parameters
    ----------
    shapes : (n, side, side), of 0 and 1, the masks.
    responses : float32 (p, h, w), peak response maps over the same square.
    backgrounds : float32 (p, side, side), of 0 and 1, the background of the peak's class.

    Returns
    -------
    float32 (n, p).
    """
    contours = morphological_gradient(shapes, size=(1, CONTOUR, CONTOUR))
    inside, on_contour = torch.from_numpy(shapes).float(), torch.from_numpy(contours).float()
    stride = shapes.shape[-1] // responses.shape[-1]
    of_cells = F.avg_pool2d(parameters.balance * inside + on_contour, stride)
    response = of_cells.flatten(1) @ responses.flatten(1).T
    lost = inside.flatten(1) @ backgrounds.flatten(1).T
    found: NDArray[np.float32] = (response - parameters.penalty * lost).numpy()
    return found


def background(maps: Tensor, side: int, part: float) -> Tensor:
    """Say which pixels are below a part of their class map's mean: float (C, side, side)."""
    magnified = F.interpolate(maps[None], (side, side), mode="bilinear")[0]
    return (magnified < part * magnified.mean((1, 2), keepdim=True)).to(maps.dtype)


def warp_masks(rles: Sequence[Rle], side: int) -> NDArray[np.uint8]:
    """Warp masks to a square by the nearest pixel: (n, side, side), of 0 and 1."""
    height, width = rles[0]["size"]
    middles = (np.arange(side) + 0.5) / side
    pixels = np.ix_((middles * height).astype(np.int64), (middles * width).astype(np.int64))
    # One by one: all those of a large photograph would take gigabytes.
    warped = [masks.decode([rle], height, width)[0][pixels] for rle in rles]
    return np.stack(warped).view(np.uint8)


def _candidates(proposals: Proposals, parameters: RetrievalParameters) -> list[Rle]:
    """Those of the best proposals that are neither too small nor too large."""
    best = proposals.masks[: parameters.max_candidates]
    frames = np.array([height * width for height, width in (rle["size"] for rle in best)])
    shares = masks.area(best) / frames
    fitting = (shares >= parameters.min_area) & (shares < parameters.max_area)
    return [best[number] for number in np.flatnonzero(fitting)]


def _logits(maps: Tensor) -> Tensor:
    """The score of every class, (C,)."""
    return peak_scores(maps[None], "mean")[0]
