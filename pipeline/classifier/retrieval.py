"""The baseline without a detector: retrieve the best proposal for every peak.

PRM (Zhou et al., CVPR 2018), section 3.3, instance retrieval. Photographs, maps and proposals are
warped to the classifier's input, a square of `image_size` pixels, where all is measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

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
from pipeline.artifacts.split import PhotographFile
from pipeline.classifier.inference import as_inputs, classifier
from pipeline.classifier.network import peak_scores
from pipeline.classifier.peaks import PeaksParameters, locate_all
from pipeline.common import masks, runtime
from pipeline.common.images import read_image
from pipeline.common.masks import Rle
from pipeline.common.parameters import Parameters

# Window of the morphological gradient, in pixels.
CONTOUR = 5


class RetrievalParameters(Parameters):
    """Retrieval of a proposal for every peak. The released code's values are in brackets."""

    renamed: ClassVar[Mapping[str, str]] = {
        "least_peak": "min_peak_height",
        "candidates": "max_candidates",
        "smallest": "min_area",
        "largest": "max_area",
        "background": "background_threshold",
        "nms": "nms_threshold",
    }

    min_peak_height: float = Field(description="minimum height of a peak, a logit (30)")
    max_candidates: PositiveInt = Field(
        description="number of proposals per image, those with the highest scores (100)"
    )
    min_area: float = Field(
        ge=0, le=1, description="minimum area of a proposal, as a fraction of the image (2e-5)"
    )
    max_area: float = Field(
        ge=0, le=1, description="area that proposals must be below, as a fraction (0.85)"
    )
    balance: NonNegativeFloat = Field(
        description="weight of the response in a mask relative to that on its contour (0.8)"
    )
    penalty: NonNegativeFloat = Field(description="penalty per background pixel in a mask (1e-5)")
    background_threshold: PositiveFloat = Field(
        description="background is below this fraction of the mean of the class map (0.95)"
    )
    nms_threshold: float = Field(
        gt=0, le=1, description="mask IoU above which non-maximum suppression drops a mask (0.3)"
    )

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.min_area >= self.max_area:
            raise ValueError("min_area is not below max_area")
        return self


@dataclass(frozen=True)
class Retriever:
    """Retrieves the instances of photographs.

    weights : weights file of the classifier.
    proposals : path of the proposal store.
    peaks : path of the peak store, or parameters to find the peaks of all classes that the
        classifier predicts with a logit of at least 0.
    parameters : of the retrieval.
    """

    weights: Path
    proposals: Path
    peaks: Path | PeaksParameters
    parameters: RetrievalParameters

    def __call__(self, photographs: Sequence[PhotographFile]) -> list[Instances]:
        """Retrieve the instances of each of some photographs."""
        network = classifier(self.weights)
        images = [read_image(photograph.path) for photograph in photographs]
        with torch.inference_mode():
            maps = network(as_inputs(network, images)).float()
        ids = [photograph.id for photograph in photographs]
        if isinstance(self.peaks, Path):
            store = opened(PeakStore, self.peaks)
            peaks = [store.peaks(image_id) for image_id in ids]
        else:
            predicted = peak_scores(maps, "mean").cpu() >= 0
            classes = [of_image.nonzero()[:, 0].tolist() for of_image in predicted]
            peaks = locate_all(network, images, classes, self.peaks)
        proposals = opened(ProposalStore, self.proposals)
        image_size = network.description.image_size
        return [
            retrieve(found, of_image, proposals.proposals(image_id), image_size, self.parameters)
            for found, of_image, image_id in zip(peaks, maps, ids, strict=True)
        ]


def retrieve(
    peaks: Peaks,
    maps: Tensor,
    proposals: Proposals,
    image_size: int,
    parameters: RetrievalParameters,
) -> Instances:
    """Retrieve the best candidate for every peak, and apply non-maximum suppression.

    Parameters
    ----------
    maps : class response maps of the image, float (C, h, w), on the device that computes.
    image_size : height and width of the classifier's input, in pixels.

    Returns
    -------
    Instances whose score is the probability of the class times the retrieval score, as a
    fraction of the highest possible one and at least 0.
    """
    rles = _candidates(proposals, parameters)
    numbers = np.flatnonzero(peaks.value >= parameters.min_peak_height)
    if not rles or not len(numbers):
        return Instances.none()
    label = peaks.label[numbers]
    pair_scores = scores(
        warp_masks(rles, image_size),
        torch.from_numpy(peaks.response[numbers]),
        background(maps, image_size, parameters.background_threshold)[label.astype(np.int64)],
        parameters,
    )
    best, retrieved = pair_scores.argmax(axis=0), pair_scores.max(axis=0)
    order = np.argsort(-retrieved, kind="stable")
    order = order[masks.nms([rles[best[k]] for k in order], parameters.nms_threshold)]
    probability = torch.sigmoid(peak_scores(maps[None], "mean")[0]).cpu().numpy()[label]
    # The whole response is both in the mask and on its contour, without background.
    highest = parameters.balance + 1
    confidence = (probability * retrieved.clip(0, highest) / highest).astype(np.float32)
    order = order[np.argsort(-confidence[order], kind="stable")]
    return Instances([rles[best[k]] for k in order], label[order], confidence[order])


@runtime.without_tf32()
def scores(
    shapes: NDArray[np.uint8],
    responses: Tensor,
    backgrounds: Tensor,
    parameters: RetrievalParameters,
) -> NDArray[np.float32]:
    """Score every mask for every peak (PRM 3.3).

    The response of a cell is assumed to be uniform over its pixels.

    Parameters
    ----------
    shapes : masks, uint8 (n, s, s), 0 or 1.
    responses : peak response maps over the same square, float32 (p, h, w).
    backgrounds : background of the class of each peak, float32 (p, s, s), 0 or 1, on the device
        that computes.

    Returns
    -------
    float32 (n, p).
    """
    inside = torch.from_numpy(shapes).to(backgrounds.device).float()
    on_contour = _contours(shapes, inside)
    stride = shapes.shape[-1] // responses.shape[-1]
    cell_weights = F.avg_pool2d(parameters.balance * inside + on_contour, stride)
    response = cell_weights.flatten(1) @ responses.to(backgrounds.device).flatten(1).T
    background_area = inside.flatten(1) @ backgrounds.flatten(1).T
    pair_scores = response - parameters.penalty * background_area
    result: NDArray[np.float32] = pair_scores.cpu().numpy()
    return result


def _contours(shapes: NDArray[np.uint8], inside: Tensor) -> Tensor:
    """Find the pixels near the edges of masks: float32 (n, s, s), 1 there and otherwise 0.

    Parameters
    ----------
    shapes, inside : the masks, on the host, and as float32 (n, s, s) on the device.
    """
    if runtime.on_gpu(inside.device):
        window = (CONTOUR, 1, CONTOUR // 2)
        return F.max_pool2d(inside, *window) + F.max_pool2d(-inside, *window)
    contours = morphological_gradient(shapes, size=(1, CONTOUR, CONTOUR))
    return torch.from_numpy(contours).float()  # several times as fast as pooling on a CPU


def background(maps: Tensor, image_size: int, fraction: float) -> Tensor:
    """Find the pixels below a fraction of the mean of their class map.

    Returns
    -------
    Tensor of the maps' dtype, (C, image_size, image_size), 1 for background and otherwise 0.
    """
    upsampled = F.interpolate(maps[None], (image_size, image_size), mode="bilinear")[0]
    return (upsampled < fraction * upsampled.mean((1, 2), keepdim=True)).to(maps.dtype)


def warp_masks(rles: Sequence[Rle], image_size: int) -> NDArray[np.uint8]:
    """Resize masks to a square by nearest neighbor: uint8 (n, image_size, image_size), 0 or 1."""
    height, width = rles[0]["size"]
    centers = (np.arange(image_size) + 0.5) / image_size
    pixels = np.ix_((centers * height).astype(np.int64), (centers * width).astype(np.int64))
    # One by one: decoding all masks of a large photograph at once would take gigabytes.
    warped = [masks.decode([rle], height, width)[0][pixels] for rle in rles]
    return np.stack(warped).view(np.uint8)


def _candidates(proposals: Proposals, parameters: RetrievalParameters) -> list[Rle]:
    """Select those of the best proposals that are neither too small nor too large."""
    best = proposals.masks[: parameters.max_candidates]
    image_area = np.array([height * width for height, width in (rle["size"] for rle in best)])
    relative_area = masks.area(best) / image_area
    fitting = (relative_area >= parameters.min_area) & (relative_area < parameters.max_area)
    return [best[number] for number in np.flatnonzero(fitting)]
