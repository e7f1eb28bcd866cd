"""The patches that SharpMask is trained on: windows of objects, and of background.

A window looks at an image at a scale, in pixels of the patch per pixel of the image. It is an
object's window where the object is centred and `OBJECT_SIDE` pixels long.
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
from pipeline.proposals.sharpmask.network import (
    OUTSIDE,
    PATCH,
    WINDOW,
)
from pipeline.proposals.sharpmask.parameters import SharpMaskParameters
from pipeline.proposals.sharpmask.source import SourceImage, SourceObject
from pipeline.training.augmentation import jitter_colors
from pipeline.training.batches import EpochSample

OBJECT_SIDE = 92
COARSE_TARGET_SIDE = 112
_DRAWS_FOR_A_NEGATIVE = 10_000


class Window(NamedTuple):
    """Where a patch is: its centre in pixels of the image, and its scale.

    `stretch` says by how many octaves it is wider than high.
    """

    y: float
    x: float
    scale: float
    stretch: float = 0.0


class Patch(TypedDict):
    """What the network sees of a window, and what it should say.

    image : uint8 (3, 192, 192).
    label : 1.0 where there is an object, -1.0 where there is none.
    mask : float32 (1, side, side), 1 on the object of the window and -1 beside it; 0 if none.
    """

    image: Tensor
    label: Tensor
    mask: Tensor


class PatchSamples:
    """Patches of a source: objects, drawn evenly over categories, and background.

    Parameters
    ----------
    source : images with their objects.
    mask_side : of the masks, in pixels.
    background : whether every other patch is a negative.

    Raises
    ------
    InputError
        If the source has no object that is large enough.
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
                f"{parameters.min_object_size:g} pixels; proposals cannot be learnt from it"
            )

    @property
    def objects(self) -> int:
        """How many objects there are to draw from."""
        return sum(len(members) for members in self._categories)

    def __len__(self) -> int:
        return self._parameters.samples_per_epoch

    def __getitem__(self, visit: EpochSample) -> Patch:
        rng = visit.generator(self._parameters.seed)
        if self._background and visit.item % 2:
            return self._negative(rng)
        return self._positive(rng)

    def collate(self, patches: Sequence[Patch]) -> Patch:
        """Stack patches along a first dimension."""
        batch: Patch = default_collate(list(patches))
        return batch

    def _positive(self, rng: np.random.Generator) -> Patch:
        members = self._categories[rng.integers(len(self._categories))]
        image, thing = members[rng.integers(len(members))]
        window = object_window(thing, rng, self._parameters)
        mask = Image.fromarray(image.mask(thing).view(np.uint8) * 255)
        colors = look(image, window)
        if rng.random() < self._parameters.copy_paste:
            elsewhere = look(*any_window(self._source, rng, self._parameters))
            colors = Image.composite(colors, elsewhere, cut(mask, window, PATCH, PATCH, 0))
        mask_patch = np.asarray(cut(mask, window, WINDOW, self._mask_side, 0)) >= 128
        return self._patch(colors, mask_patch * np.float32(2) - 1, 1.0, rng)

    def _negative(self, rng: np.random.Generator) -> Patch:
        image, window = background_window(self._source, rng, self._parameters)
        no_mask = np.zeros((self._mask_side, self._mask_side), np.float32)
        return self._patch(look(image, window), no_mask, -1.0, rng)

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
    """The scale at which an object is `OBJECT_SIDE` pixels long."""
    return OBJECT_SIDE / max(box[2:])


def object_window(
    thing: SourceObject, rng: np.random.Generator, parameters: SharpMaskParameters
) -> Window:
    """An object's window, off centre and off scale by chance (DeepMask, section 3.2)."""
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
    """A window anywhere in the source, at any of the scales of negatives."""
    image = source[int(rng.integers(len(source)))]
    scale = 2 ** rng.uniform(parameters.min_scale, parameters.max_scale)
    return image, Window(rng.uniform(0, image.height), rng.uniform(0, image.width), scale)


def background_window(
    source: Sequence[SourceImage], rng: np.random.Generator, parameters: SharpMaskParameters
) -> tuple[SourceImage, Window]:
    """A window anywhere in the source that is not an object's.

    Raises
    ------
    InputError
        If chance finds none.
    """
    for _ in range(_DRAWS_FOR_A_NEGATIVE):
        image, window = any_window(source, rng, parameters)
        if is_background(window, image, parameters):
            return image, window
    raise InputError(
        f"{parameters.path}: objects and crowds leave no background; "
        "lower sharpmask.negative_distance or sharpmask.negative_octaves"
    )


def is_background(window: Window, image: SourceImage, parameters: SharpMaskParameters) -> bool:
    """Whether a window is far, in place or scale, from every object, and in place from crowds."""
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


def look(image: SourceImage, window: Window) -> Image.Image:
    """What the network sees of an image through a window: a patch."""
    return cut(Image.fromarray(image.pixels()), window, PATCH, PATCH, (OUTSIDE,) * 3)


def cut(
    image: Image.Image, window: Window, side: int, pixels: int, outside: int | tuple[int, ...]
) -> Image.Image:
    """The rectangle of `side` patch pixels around a window's centre, drawn with `pixels` a side."""
    width = side / window.scale * 2 ** (window.stretch / 2)
    height = side / window.scale / 2 ** (window.stretch / 2)
    left, top = window.x - width / 2, window.y - height / 2
    x, y = math.floor(left), math.floor(top)
    canvas = Image.new(image.mode, (math.ceil(width) + 1, math.ceil(height) + 1), outside)
    canvas.paste(image, (-x, -y))
    box = (left - x, top - y, left - x + width, top - y + height)
    return canvas.resize((pixels, pixels), Image.Resampling.BILINEAR, box)
