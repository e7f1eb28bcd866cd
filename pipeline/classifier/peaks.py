"""Peaks of a photograph's tagged classes, and their peak response maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pipeline.artifacts.peaks import Peaks
from pipeline.classifier.inference import as_inputs, classifier
from pipeline.classifier.network import STRIDE, Prm, find_peaks
from pipeline.classifier.peak_response import PeakBackpropagation
from pipeline.common import runtime
from pipeline.common.errors import InputError
from pipeline.common.images import read_image
from pipeline.common.parameters import Parameters


class PeaksParameters(Parameters):
    """The selection of peaks, and the resolution of peak response maps."""

    renamed: ClassVar[Mapping[str, str]] = {
        "minimum": "min_relative_height",
    }

    min_relative_height: float = Field(
        ge=0, le=1, description="minimum height of a peak, as a fraction of the map's maximum"
    )
    response: Literal["peak", "class"] = Field(
        description="peak: PRM's backpropagation from each peak; class: the class response map, "
        "the same for all peaks of a class, for backbones with self-attention"
    )
    response_stride: int = Field(
        ge=1, description="stride of peak response maps, in pixels of the input"
    )
    scales: tuple[Annotated[int, Field(ge=STRIDE, multiple_of=STRIDE)], ...] = Field(
        description="sizes in pixels to which an image is warped, and whose class response maps "
        "are averaged; none: prm.image_size"
    )
    flip: bool = Field(description="also average with the maps of the mirror image")


class TaggedPhotograph(NamedTuple):
    """A photograph with tags.

    file : path of the photograph.
    labels : class indices of its tags.
    """

    file: Path
    labels: list[int]


def peaks_of(
    weights: Path, parameters: PeaksParameters, photographs: Sequence[TaggedPhotograph]
) -> list[Peaks]:
    """Find the peaks of photographs' tagged classes with the classifier of a weights file."""
    images = [read_image(photograph.file) for photograph in photographs]
    labels = [photograph.labels for photograph in photographs]
    return locate_all(classifier(weights), images, labels, parameters)


def locate(
    network: Prm, image: NDArray[np.uint8], labels: Sequence[int], parameters: PeaksParameters
) -> Peaks:
    """Find the peaks of the given classes in an image, see `locate_all`."""
    (peaks,) = locate_all(network, [image], [labels], parameters)
    return peaks


def locate_all(
    network: Prm,
    images: Sequence[NDArray[np.uint8]],
    labels: Sequence[Sequence[int]],
    parameters: PeaksParameters,
) -> list[Peaks]:
    """Find the peaks of the given classes in each of some images, uint8 (h, w, 3).

    Peaks are found in class response maps that are averaged over scales and mirror images. Their
    response maps are computed at the size of training, by default by propagating back from the
    cell of each peak.

    Raises
    ------
    InputError
        If the backbone cannot divide a size, or does not allow backpropagation from peaks.
    """
    pixels = as_inputs(network, images)
    backpropagation = _backpropagation(network, pixels) if parameters.response == "peak" else None
    own = backpropagation.maps if backpropagation else _class_maps(network, pixels)
    # All maps are copied once. To select peaks on a GPU, the host would wait for it several times.
    maps = _average(network, images, own, parameters).cpu()
    peaks = _select(maps, labels, parameters.min_relative_height)
    if backpropagation:
        responses = backpropagation.responses(
            peaks, parameters.response_stride, together=runtime.on_gpu(pixels.device)
        )
    else:
        responses = _class_responses(maps, peaks, pixels.shape[-1] // parameters.response_stride)
    heights, response = maps[tuple(peaks.T)].numpy(), responses.cpu().numpy()
    rows, columns = maps.shape[-2:]
    found = []
    for number, image in enumerate(images):
        of_image = peaks[:, 0].numpy() == number
        _, label, row, column = peaks.numpy()[of_image].T
        found.append(
            Peaks(
                label=label.astype(np.int16),
                y=((row + 0.5) * image.shape[0] / rows).astype(np.int32),
                x=((column + 0.5) * image.shape[1] / columns).astype(np.int32),
                value=heights[of_image],
                response=response[of_image],
            )
        )
    return found


def _backpropagation(network: Prm, pixels: Tensor) -> PeakBackpropagation:
    if network.backbone.is_transformer:
        raise InputError(
            f"peaks.response = 'peak': backbone {network.description.backbone} has self-attention, "
            "for which PRM defines no peak response; 'class' takes the class response maps"
        )
    return PeakBackpropagation(network, pixels)


@runtime.without_tf32()
@torch.inference_mode()
def _class_maps(network: Prm, pixels: Tensor) -> Tensor:
    maps: Tensor = network(pixels)
    return maps


def _class_responses(maps: Tensor, peaks: Tensor, cells: int) -> Tensor:
    """Take the positive part of the class response map of each peak. Not published.

    Parameters
    ----------
    maps : float (m, C, h, w).
    peaks : int64 (n, 4): image, class, and row and column in the maps.
    cells : height and width of the result.

    Returns
    -------
    float (n, cells, cells); each map sums to 1, or to 0 if nothing in it is positive.
    """
    resized = F.interpolate(maps, (cells, cells), mode="bilinear").clamp(min=0)
    responses = resized[peaks[:, 0], peaks[:, 1]]
    total = responses.sum((1, 2), keepdim=True).clamp(min=torch.finfo(responses.dtype).tiny)
    return torch.div(responses, total)


@runtime.without_tf32()
@torch.inference_mode()
def _average(
    network: Prm, images: Sequence[NDArray[np.uint8]], own: Tensor, parameters: PeaksParameters
) -> Tensor:
    """Average class response maps over all scales, and over mirror images if these are wanted.

    Not published.

    Parameters
    ----------
    own : maps of the m images at the size of training, float (m, C, h, w).

    Returns
    -------
    float (m, C, h, w), on the same grid.
    """

    def on_grid(pixels: Tensor) -> Tensor:
        return F.interpolate(
            network.head(network.backbone(pixels)), own.shape[-2:], mode="bilinear"
        )

    own_size = network.description.image_size
    maps = []
    for size in parameters.scales or (own_size,):
        pixels = as_inputs(network, images, size)
        maps.append(own if size == own_size else on_grid(pixels))
        if parameters.flip:
            maps.append(on_grid(pixels.flip(-1)).flip(-1))
    return torch.stack(maps).mean(0)


def _select(maps: Tensor, labels: Sequence[Sequence[int]], min_relative_height: float) -> Tensor:
    """Select the peaks of the given classes of each image that are high enough.

    Where the maximum of a map is not above 0, it is the only peak: the class is present
    according to the tag.

    Returns
    -------
    int64 (n, 4): image, class, row and column.
    """
    highest = maps.amax((2, 3), keepdim=True)
    threshold = torch.where(highest > 0, min_relative_height * highest, highest)
    selected = torch.zeros_like(maps, dtype=torch.bool)
    for of_image, given in zip(selected, labels, strict=True):
        of_image[list(given)] = True
    return (find_peaks(maps) & (maps >= threshold) & selected).nonzero()
