"""Features of a frozen backbone, computed once for each photograph and for its mirror image."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.artifacts.split import Split
from pipeline.artifacts.weights import write_weights
from pipeline.classifier.inference import as_inputs, classifier
from pipeline.classifier.network import Prm
from pipeline.common import runtime
from pipeline.common.images import read_image
from pipeline.execution.photographs import map_together
from pipeline.training.distributed import join

Features = Callable[[int, bool], NDArray[np.float16]]
"""Gives the features of a photograph by its index, or of its mirror image if that is wanted.

They are float16 of shape (channels, image_size / stride, image_size / stride).
"""


@dataclass(frozen=True)
class FeatureFile:
    """`Features` in a file, which several processes can read.

    Parameters
    ----------
    path : float16 values of shape (photographs, 2, *shape), in this order.
    shape : of the features of one image: channels, height and width.
    """

    path: Path
    shape: tuple[int, int, int]

    def __call__(self, photograph: int, mirrored: bool) -> NDArray[np.float16]:
        """Read the features of a photograph or of its mirror image."""
        count = prod(self.shape)
        values = np.fromfile(
            self.path, np.float16, count, offset=2 * count * (2 * photograph + mirrored)
        )
        return values.reshape(self.shape)

    @property
    def bytes_per_photograph(self) -> int:
        """Bytes of both images of a photograph."""
        return 2 * 2 * prod(self.shape)


def compute_features(network: Prm, split: Split, folder: Path) -> FeatureFile:
    """Compute the features of all photographs of a split, or what is missing of them in a folder.

    Under torchrun the first process computes them, and the others wait.
    """
    features = FeatureFile(folder / "features.float16", feature_shape(network))
    if runtime.is_main_process():
        weights = folder / "backbone.safetensors"
        with features.path.open("ab") as file:
            done = file.tell() // features.bytes_per_photograph
            if remaining := split.photographs[done:]:
                file.truncate(done * features.bytes_per_photograph)  # an unfinished photograph
                write_weights(weights, network, network.description)
                compute = partial(_views_of, weights)
                for _, of_photograph in map_together(
                    compute, split.path, remaining, "prm, features"
                ):
                    file.write(of_photograph.tobytes())
    join().wait()
    return features


def feature_shape(network: Prm) -> tuple[int, int, int]:
    """Return the shape of the features of one image: channels, height and width."""
    cells = network.description.image_size // network.backbone.stride
    return network.backbone.channels, cells, cells


def _views_of(weights: Path, photographs: Sequence[Path]) -> list[NDArray[np.float16]]:
    return list(views(classifier(weights), [read_image(path) for path in photographs]))


@torch.inference_mode()
def views(network: Prm, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float16]:
    """Compute the features of m images, uint8 (h_i, w_i, 3), and of their mirror images.

    Returns
    -------
    float16 (m, 2, channels, image_size / stride, image_size / stride).
    """
    pixels = as_inputs(network, images)
    features = network.backbone(torch.cat([pixels, pixels.flip(-1)])).half()
    values: NDArray[np.float16] = features.unflatten(0, (2, -1)).transpose(0, 1).cpu().numpy()
    return values


def digest(network: Prm, split: Split) -> str:
    """Compute a digest of what features depend on: backbone, size of the input, photographs."""
    content = hashlib.sha256(f"{network.description.image_size}".encode())
    for name, value in network.backbone.state_dict().items():
        content.update(name.encode() + value.cpu().numpy().tobytes())
    for photograph in split.photographs:
        content.update(f"{photograph.file} {photograph.sha256} ".encode())
    return content.hexdigest()
