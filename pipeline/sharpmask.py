"""Training SharpMask on masks of any objects: windows, losses, and the two phases.

A window looks at an image at a scale, in pixels of the patch a pixel of the image. It is an
object's window where the object is centred and `OBJECT_SIDE` pixels long.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.utils.data import default_collate

from pipeline import runtime
from pipeline.augmentation import jitter_colours
from pipeline.datasets.coco import SourceImage, SourceObject
from pipeline.errors import InputError
from pipeline.networks.sharpmask import (
    OUTSIDE,
    PATCH,
    WINDOW,
    DeepMask,
    Description,
    Refinement,
    SharpMask,
)
from pipeline.parameters import Parameters
from pipeline.training import Mean, Places, Schedule, Visit, fit

OBJECT_SIDE = 92
COARSE_TARGET_SIDE = 112
_DRAWS_FOR_A_NEGATIVE = 10_000


class SharpMaskParameters(Parameters):
    """Settings of the stage `sharpmask`."""

    path: str = Field(min_length=1, description="folder with instances.json and images/ (COCO)")
    smallest_object: float = Field(gt=0, description="longer side of the smallest one used, pixels")
    backbone: str = Field(description="a timm model with features at strides 2, 4, 8 and 16")
    weights: str = Field(description="of the backbone: package, hub, none, or a file")
    features: int = Field(ge=1, description="channels that the code of a window is made from")
    code: int = Field(ge=1, description="channels of the code of a window")
    score: int = Field(ge=1, description="channels of the score head's hidden layer")
    lateral: int = Field(ge=1, description="channels of the lateral paths' hidden layers")
    refinement: int = Field(
        ge=8, multiple_of=8, description="channels of the top-down path at its start; halves thrice"
    )
    dropout: float = Field(ge=0, lt=1, description="in the score head")
    mask_weight: float = Field(gt=0, description="of the mask loss beside the score loss")
    shift: float = Field(ge=0, description="furthest that an object is off centre, patch pixels")
    octaves: float = Field(ge=0, description="furthest that an object is off scale, octaves")
    stretch: float = Field(
        ge=0, le=2, description="most that a window is wider or narrower than high, octaves"
    )
    transplants: float = Field(
        ge=0, le=1, description="share of objects that are shown on another image's background"
    )
    negative_distance: float = Field(
        gt=0, description="least distance of a negative's centre from every object's, patch pixels"
    )
    negative_octaves: float = Field(
        gt=0, description="least difference of scale, octaves, that makes up for any distance"
    )
    smallest_scale: float = Field(ge=-6, le=3, description="of negatives, a power of two")
    largest_scale: float = Field(ge=-6, le=3, description="of negatives, a power of two")
    colour_jitter: float = Field(
        ge=0, lt=1, description="largest change of brightness, contrast and saturation, a share"
    )
    samples_per_epoch: int = Field(ge=1, description="patches that count as an epoch")
    deepmask: Schedule = Field(description="phase 1: trunk, coarse masks and scores")
    sharpening: Schedule = Field(description="phase 2: the refinement, all else frozen")
    seed: int = Field(ge=0, description="of weights, windows and jitter")


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
                if max(thing.box[2:]) >= parameters.smallest_object:
                    categories[thing.category].append((image, thing))
        self._categories = list(categories.values())
        if not self._categories:
            raise InputError(
                f"{parameters.path}: no object with a mask and a longer side of at least "
                f"{parameters.smallest_object:g} pixels; proposals cannot be learnt from it"
            )

    @property
    def objects(self) -> int:
        """How many objects there are to draw from."""
        return sum(len(members) for members in self._categories)

    def __len__(self) -> int:
        return self._parameters.samples_per_epoch

    def __getitem__(self, visit: Visit) -> Patch:
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
        colours = look(image, window)
        if rng.random() < self._parameters.transplants:
            elsewhere = look(*any_window(self._source, rng, self._parameters))
            colours = Image.composite(colours, elsewhere, cut(mask, window, PATCH, PATCH, 0))
        mask_patch = np.asarray(cut(mask, window, WINDOW, self._mask_side, 0)) >= 128
        return self._patch(colours, mask_patch * np.float32(2) - 1, 1.0, rng)

    def _negative(self, rng: np.random.Generator) -> Patch:
        image, window = background_window(self._source, rng, self._parameters)
        no_mask = np.zeros((self._mask_side, self._mask_side), np.float32)
        return self._patch(look(image, window), no_mask, -1.0, rng)

    def _patch(
        self,
        colours: Image.Image,
        mask: NDArray[np.float32],
        label: float,
        rng: np.random.Generator,
    ) -> Patch:
        pixels = np.asarray(colours)
        if rng.random() < 0.5:
            pixels, mask = pixels[:, ::-1], mask[:, ::-1]
        patch = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        return {
            "image": jitter_colours(patch, rng, self._parameters.colour_jitter),
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
    scale = object_scale(thing.box) * 2 ** rng.uniform(-parameters.octaves, parameters.octaves)
    off_y, off_x = rng.uniform(-parameters.shift, parameters.shift, 2) / scale
    stretch = rng.uniform(-parameters.stretch, parameters.stretch)
    return Window(y + height / 2 + off_y, x + width / 2 + off_x, scale, stretch)


def any_window(
    source: Sequence[SourceImage], rng: np.random.Generator, parameters: SharpMaskParameters
) -> tuple[SourceImage, Window]:
    """A window anywhere in the source, at any of the scales of negatives."""
    image = source[int(rng.integers(len(source)))]
    scale = 2 ** rng.uniform(parameters.smallest_scale, parameters.largest_scale)
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


def soft_margin(logits: Tensor, signs: Tensor) -> Tensor:
    """log(1 + exp(-sign * logit)) of every element."""
    return F.softplus(-signs * logits)


def deepmask_loss(network: DeepMask, mask_weight: float, batch: Patch) -> Mapping[str, Mean]:
    """Phase 1: scores of all patches, coarse masks of those with an object (DeepMask, Eq. 1)."""
    _, code = network(batch["image"] / 255)
    score = soft_margin(network.scores(code).flatten(), batch["label"])
    coarse = F.interpolate(
        network.masks(code.flatten(1)), batch["mask"].shape[-2:], mode="bilinear"
    )
    of_patches = soft_margin(coarse, batch["mask"]).mean(dim=(1, 2, 3))
    has_object = (batch["label"] > 0).float()
    return {
        "mask": Mean(mask_weight * (of_patches * has_object).sum(), has_object.sum()),
        "score": Mean(score.sum(), len(score)),
    }


def sharpening_loss(refinement: Refinement, deepmask: DeepMask, batch: Patch) -> Mapping[str, Mean]:
    """Phase 2: sharp masks, from a DeepMask that no longer learns (SharpMask, section 2.2)."""
    with torch.no_grad():
        features, code = deepmask(batch["image"] / 255)
    masks = refinement(code.flatten(1), refinement.lateral(features))
    of_pixels = soft_margin(masks, batch["mask"])
    return {"mask": Mean(of_pixels.sum(), of_pixels.numel())}


def train(
    source: Sequence[SourceImage], parameters: SharpMaskParameters, folder: Path
) -> tuple[SharpMask, Description, dict[str, Any]]:
    """Train in two phases, with checkpoints and curves under `folder`.

    Returns
    -------
    the network, its description, and the last epoch's mean losses of both phases.

    Raises
    ------
    InputError
        If the source has nothing to learn from, or a loss is no longer finite.
    """
    runtime.seed_everything(parameters.seed)
    coarse = PatchSamples(source, parameters, COARSE_TARGET_SIDE, background=True)
    sharp = PatchSamples(source, parameters, WINDOW, background=False)
    description = Description(
        trained_on=f"{coarse.objects} instance masks on {len(source)} images of {parameters.path}",
        **parameters.model_dump(include=set(Description.model_fields)),
    )
    network = SharpMask(description, parameters.weights, parameters.dropout)
    network.to(runtime.device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    deepmask, refinement = network.deepmask, network.refinement
    losses = {
        "deepmask": fit(
            deepmask,
            partial(deepmask_loss, deepmask, parameters.mask_weight),
            coarse,
            parameters.deepmask,
            parameters.seed,
            Places(folder / "deepmask.pt", folder / "curves" / "deepmask"),
            "DeepMask",
        ),
        "sharpening": fit(
            refinement,
            partial(sharpening_loss, refinement, deepmask),
            sharp,
            parameters.sharpening,
            parameters.seed,
            Places(folder / "sharpening.pt", folder / "curves" / "sharpening"),
            "SharpMask",
        ),
    }
    return network, description, losses
