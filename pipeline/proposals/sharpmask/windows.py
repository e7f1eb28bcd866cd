"""The patches that SharpMask is trained on: windows around objects, and background windows.

The scale of a window is given in patch pixels per image pixel. In the window of an object, the
object is centered and its longer side is `OBJECT_SIDE` pixels.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from pipeline.common.errors import InputError
from pipeline.proposals.sharpmask.network import OUTSIDE, PATCH, WINDOW
from pipeline.proposals.sharpmask.parameters import SharpMaskParameters
from pipeline.proposals.sharpmask.source import SourceImage, SourceObject
from pipeline.training.augmentation import jitter_colors
from pipeline.training.batches import EpochSample

OBJECT_SIDE = 92
COARSE_TARGET_SIDE = 112
_MAX_TRIES = 10_000


class Window(NamedTuple):
    """The position and scale of a patch: its center in image pixels, its scale.

    `stretch` is the logarithm to base 2 of width over height.
    """

    y: float
    x: float
    scale: float
    stretch: float = 0.0


class Patch(TypedDict):
    """The network's input for a window, and its target.

    Attributes
    ----------
    image : uint8 (3, 192, 192).
    label : float32, 1 for an object, -1 for background.
    mask : float32 (1, side, side), 1 inside the object and -1 outside; 0 for background.
    """

    image: Tensor
    label: Tensor
    mask: Tensor


class PatchSamples:
    """Patches of a source: objects, sampled evenly over the categories, and background.

    Parameters
    ----------
    source : images with their objects.
    mask_side : side of the target masks, in pixels.
    background : whether every other patch is background.

    Raises
    ------
    InputError
        If no object of the source is large enough.
    """

    def __init__(
        self,
        source: Sequence[SourceImage],
        parameters: SharpMaskParameters,
        mask_side: int,
        background: bool,
    ) -> None:
        self._source = source
        self._parameters = parameters
        self._mask_side = mask_side
        self._background = background
        categories = defaultdict(list)
        for image in source:
            for thing in image.objects:
                if max(thing.box[2:]) >= parameters.min_object_size:
                    categories[thing.category].append((image, thing))
        self._categories = list(categories.values())
        if not self._categories:
            raise InputError(
                f"{parameters.path}: no object with a mask and a longer side of at least "
                f"{parameters.min_object_size:g} pixels to train on"
            )

    @property
    def objects(self) -> int:
        """Number of objects to sample from."""
        return sum(len(members) for members in self._categories)

    def __len__(self) -> int:
        return self._parameters.samples_per_epoch

    def __getitem__(self, sample: EpochSample) -> Patch:
        rng = sample.generator(self._parameters.seed)
        if self._background and sample.item % 2:
            return self._negative(rng)
        return self._positive(rng)

    def collate(self, patches: Sequence[Patch]) -> Patch:
        """Stack patches to a batch."""
        batch: Patch = default_collate(list(patches))
        return batch

    def _positive(self, rng: np.random.Generator) -> Patch:
        members = self._categories[rng.integers(len(self._categories))]
        image, thing = members[rng.integers(len(members))]
        window = object_window(thing, rng, self._parameters)
        mask = Image.fromarray(image.mask(thing).view(np.uint8) * 255)
        colors = crop_patch(image, window)
        if rng.random() < self._parameters.copy_paste:
            elsewhere = crop_patch(*any_window(self._source, rng, self._parameters))
            colors = Image.composite(colors, elsewhere, crop(mask, window, PATCH, PATCH, 0))
        mask_patch = np.asarray(crop(mask, window, WINDOW, self._mask_side, 0)) >= 128
        return self._patch(colors, mask_patch * np.float32(2) - 1, 1.0, rng)

    def _negative(self, rng: np.random.Generator) -> Patch:
        image, window = background_window(self._source, rng, self._parameters)
        no_mask = np.zeros((self._mask_side, self._mask_side), np.float32)
        return self._patch(crop_patch(image, window), no_mask, -1.0, rng)

    def _patch(
        self,
        colors: Image.Image,
        mask: NDArray[np.float32],
        label: float,
        rng: np.random.Generator,
    ) -> Patch:
        pixels = np.asarray(colors)
        if rng.random() < 0.5:
            pixels, mask = pixels[:, ::-1], mask[:, ::-1]
        patch = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        return {
            "image": jitter_colors(patch, rng, self._parameters.color_jitter),
            "label": torch.tensor(label),
            "mask": torch.from_numpy(mask[None].copy()),
        }


def object_scale(box: tuple[float, float, float, float]) -> float:
    """Compute the scale at which the longer side of an object is `OBJECT_SIDE` pixels."""
    return OBJECT_SIDE / max(box[2:])


def object_window(
    thing: SourceObject, rng: np.random.Generator, parameters: SharpMaskParameters
) -> Window:
    """Return an object's window with random shift, scale and stretch (DeepMask, section 3.2)."""
    x, y, width, height = thing.box
    scale = object_scale(thing.box) * 2 ** rng.uniform(
        -parameters.scale_jitter, parameters.scale_jitter
    )
    off_y, off_x = rng.uniform(-parameters.shift_jitter, parameters.shift_jitter, 2) / scale
    stretch = rng.uniform(-parameters.aspect_jitter, parameters.aspect_jitter)
    return Window(y + height / 2 + off_y, x + width / 2 + off_x, scale, stretch)


def any_window(
    source: Sequence[SourceImage], rng: np.random.Generator, parameters: SharpMaskParameters
) -> tuple[SourceImage, Window]:
    """Draw a window anywhere in the source, at a random scale of negatives."""
    image = source[int(rng.integers(len(source)))]
    scale = 2 ** rng.uniform(parameters.min_scale, parameters.max_scale)
    return image, Window(rng.uniform(0, image.height), rng.uniform(0, image.width), scale)


def background_window(
    source: Sequence[SourceImage], rng: np.random.Generator, parameters: SharpMaskParameters
) -> tuple[SourceImage, Window]:
    """Draw a window that shows no object (see `is_background`).

    Raises
    ------
    InputError
        If no such window is found in `_MAX_TRIES` draws.
    """
    for _ in range(_MAX_TRIES):
        image, window = any_window(source, rng, parameters)
        if is_background(window, image, parameters):
            return image, window
    raise InputError(
        f"{parameters.path}: objects and crowds leave no background; "
        "lower sharpmask.negative_distance or sharpmask.negative_octaves"
    )


def is_background(window: Window, image: SourceImage, parameters: SharpMaskParameters) -> bool:
    """Whether a window differs enough from every object in position or scale, and avoids crowds."""
    near = parameters.negative_distance / window.scale
    for x, y, width, height in (thing.box for thing in image.objects):
        distance = math.hypot(window.y - (y + height / 2), window.x - (x + width / 2))
        octaves = abs(math.log2(window.scale / object_scale((x, y, width, height))))
        if distance < near and octaves < parameters.negative_octaves:
            return False
    return not any(
        x - near < window.x < x + width + near and y - near < window.y < y + height + near
        for x, y, width, height in image.crowds
    )


def crop_patch(image: SourceImage, window: Window) -> Image.Image:
    """Crop the patch of a window from an image."""
    return crop(Image.fromarray(image.pixels()), window, PATCH, PATCH, (OUTSIDE,) * 3)


def crop(
    image: Image.Image, window: Window, side: int, pixels: int, outside: int | tuple[int, ...]
) -> Image.Image:
    """Crop `side` patch pixels around a window's center, resized to `pixels` x `pixels`."""
    width = side / window.scale * 2 ** (window.stretch / 2)
    height = side / window.scale / 2 ** (window.stretch / 2)
    left, top = window.x - width / 2, window.y - height / 2
    x, y = math.floor(left), math.floor(top)
    canvas = Image.new(image.mode, (math.ceil(width) + 1, math.ceil(height) + 1), outside)
    canvas.paste(image, (-x, -y))
    box = (left - x, top - y, left - x + width, top - y + height)
    return canvas.resize((pixels, pixels), Image.Resampling.BILINEAR, box)
