"""Generated scenes: colorful objects, some of which overlap, on pale ground, with exact masks.

Target scenes show `CLASSES` and are written as Pascal VOC; source scenes show other silhouettes,
`SOURCE_CLASSES`, and are written as COCO. An image depends only on the seed, the name of its
list and its index.
"""

import colorsys
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from pipeline.dataset.scenes.outlines import (
    BASE,
    HOLE,
    OUTLINES,
    TRIM,
    Array,
    Parts,
    limb,
    polar,
    rotation,
)
from pipeline.dataset.scenes.patterns import CLASSES, LOOKS, PATTERNS, SOURCE_CLASSES, Look, noise

Bytes = npt.NDArray[np.uint8]

# Classes that occur together: the objects of a target scene are drawn from one of these.
CONTEXTS = (
    ("crab", "crab", "fish", "fish", "bottle", "kite"),
    ("mushroom", "mushroom", "butterfly", "butterfly", "cactus"),
    ("key", "key", "bottle", "bottle", "mushroom"),
    ("kite", "kite", "butterfly", "cactus", "cactus"),
    CLASSES,
)

ASPECTS = (4 / 3, 3 / 4, 1.0, 3 / 2)
OBJECTS = (1, 2, 2, 2, 3, 3, 3, 4, 4, 5)  # number of objects per scene, equally likely entries
SUPERSAMPLING = 3
# Minimum of an object that must be visible: as a fraction, and in pixels.
MIN_SHARE, MIN_PIXELS = 0.7, 150
TRIES = 16  # of placing an object


class Sprite(NamedTuple):
    """An object at its position; the arrays cover its window in the image."""

    size: float  # longer side, pixels
    area: int  # pixels of the silhouette, including those outside the image
    window: tuple[slice, slice]
    alpha: Array  # (h, w) coverage, 0 to 1
    trim: Array  # (h, w) coverage by parts painted as trim, 0 to 1
    at: Array  # (2, h, w) coordinates for patterns


class Tones(NamedTuple):
    """Ranges of the two colors of paint."""

    saturation: tuple[float, float]  # of the first color
    value: tuple[float, float]  # of the first color
    step: tuple[float, float]  # from the first color to the second


BRIGHT = Tones((0.6, 0.95), (0.4, 0.8), (0.15, 0.35))  # objects
PALE = Tones((0.0, 0.2), (0.65, 0.95), (0.03, 0.12))  # ground


class Scene(NamedTuple):
    """An image with its instances, numbered from 1, back to front."""

    image: Bytes  # (H, W, 3)
    labels: Bytes  # (H, W), number of the visible instance, or 0
    names: list[str]  # class of each instance
    shares: list[float]  # visible fraction of each silhouette


def target_scene(seed: int, list_name: str, index: int) -> Scene:
    """Draw the target scene with an index in a list."""
    rng = _generator(seed, list_name, index)
    context = CONTEXTS[rng.integers(len(CONTEXTS))]
    return _draw_scene(rng, rng.choice(context, rng.choice(OBJECTS)).tolist())


def source_scene(seed: int, index: int) -> Scene:
    """Draw the source scene with an index."""
    rng = _generator(seed, "source", index)
    return _draw_scene(rng, rng.choice(SOURCE_CLASSES, rng.choice(OBJECTS)).tolist())


def _generator(seed: int, list_name: str, index: int) -> Generator:
    return np.random.default_rng([seed, zlib.crc32(list_name.encode()), index])


def _draw_scene(rng: Generator, names: Sequence[str]) -> Scene:
    """Draw objects of the classes `names`, as far as there is room."""
    long, aspect = rng.integers(256, 321), rng.choice(ASPECTS)
    frame = round(long * min(1, 1 / aspect)), round(long * min(1, aspect))
    stack, labels = _arrange(rng, names, frame)
    canvas = _ground(rng, frame)
    light = np.array([0, 1]) @ rotation(rng.uniform(-np.pi, np.pi))
    for _, look, sprite in stack:
        _cast_shadow(rng, canvas, sprite, light)
        _lay(canvas, sprite, _paint(rng, sprite, look))
        _emboss(canvas, sprite, light)
    visible = np.bincount(labels.ravel())[1:]
    shares = [float(n) / sprite.area for n, (*_, sprite) in zip(visible, stack, strict=True)]
    return Scene(_expose(rng, canvas), labels, [name for name, *_ in stack], shares)


def _arrange(
    rng: Generator, names: Sequence[str], frame: tuple[int, int]
) -> tuple[list[tuple[str, Look, Sprite]], Bytes]:
    """Stack objects back to front so that each stays visible enough; some may find no room."""
    stack: list[tuple[str, Look, Sprite]] = []
    labels = np.zeros(frame, dtype=np.uint8)
    for name in names:
        parts, look = OUTLINES[name](rng), LOOKS.get(name) or _any_look(rng)
        size = max(frame) * rng.uniform(0.3, 0.75 - 0.07 * len(names))
        for _ in range(TRIES):
            sprite = _cut_out(rng, parts, size, look.tilt, frame)
            trial = labels.copy()
            trial[sprite.window][sprite.alpha > 0.5] = len(stack) + 1
            visible = np.bincount(trial.ravel(), minlength=len(stack) + 2)[1:]
            areas = np.array([*(placed.area for *_, placed in stack), sprite.area])
            if (visible >= np.maximum(MIN_SHARE * areas, MIN_PIXELS)).all():
                stack.append((name, look, sprite))
                labels = trial
                break
    return stack, labels


def _cut_out(
    rng: Generator, parts: Parts, size: float, tilt: float, frame: tuple[int, int]
) -> Sprite:
    """Rotate `parts`, scale their longer side to `size` pixels and place them in `frame`."""
    turn = np.diag([rng.choice([-1, 1]), 1]) @ rotation(rng.uniform(-tilt, tilt))
    corners = np.concatenate([part for _, part in parts]) @ turn
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = int(size) + 3
    shape, trim = (Image.new("L", (side * SUPERSAMPLING,) * 2) for _ in range(2))
    for tone, part in parts:
        points = (part @ turn - (low + high) / 2) * size / (high - low).max() + side / 2
        outline = (points * SUPERSAMPLING).ravel().tolist()
        ImageDraw.Draw(shape).polygon(outline, fill=255 * (tone != HOLE))
        ImageDraw.Draw(trim).polygon(outline, fill=255 * (tone == TRIM))
    layers = [np.asarray(layer.reduce(SUPERSAMPLING)) / 255 for layer in (shape, trim)]
    y, x = (np.mgrid[:side, :side] - side / 2) * 2 / size
    at = np.tensordot(turn, np.stack([x, y]), axes=1)
    top, left = (int(rng.uniform(0.2, 0.8) * extent - side / 2) for extent in frame)
    window = slice(max(top, 0), top + side), slice(max(left, 0), left + side)
    inside = slice(max(-top, 0), frame[0] - top), slice(max(-left, 0), frame[1] - left)
    area = int((layers[0] > 0.5).sum())
    return Sprite(size, area, window, layers[0][inside], layers[1][inside], at[:, *inside])


def _ground(rng: Generator, frame: tuple[int, int]) -> Array:
    """Paint a background (H, W, 3): pale, textured ground with a few pale scraps."""
    y, x = (np.mgrid[: frame[0], : frame[1]] - max(frame) / 2) * 2 / max(frame)
    turn = rotation(rng.uniform(-np.pi, np.pi)) * rng.uniform(0.5, 2.5)
    at = np.tensordot(turn, np.stack([x, y]), axes=1)
    canvas = _coat(rng, _any_look(rng), at, PALE)
    for _ in range(rng.integers(0, 4)):
        size = max(frame) * rng.uniform(0.1, 0.6)
        scrap = _cut_out(rng, _scrap(rng), size, np.pi, frame)
        _lay(canvas, scrap, _coat(rng, _any_look(rng), scrap.at, PALE))
    return canvas * (1 - rng.uniform(0, 0.25) * noise(rng, at)[..., None])


def _scrap(rng: Generator) -> Parts:
    """Return a patch or a stroke, which is no object."""
    if rng.random() < 0.4:
        path = np.cumsum(rng.normal(size=(5, 2)), axis=0).tolist()
        return [(BASE, limb(path, *rng.uniform(0.05, 0.3, 3)))]
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    waves = [rng.normal() / n**2 * np.cos(n * angle + rng.uniform(0, 6)) for n in range(2, 7)]
    return [(BASE, polar(np.maximum(1 + np.sum(waves, axis=0), 0.2)) * (1, rng.uniform(0.3, 1)))]


def _any_look(rng: Generator) -> Look:
    return Look(PATTERNS[rng.integers(len(PATTERNS))], (rng.random(),), tilt=0.7)


def _lay(canvas: Array, sprite: Sprite, paint: Array) -> None:
    """Lay a flat sprite in `paint` (h, w, 3) on `canvas` (H, W, 3)."""
    canvas[sprite.window] = _mix(canvas[sprite.window], paint, sprite.alpha)


def _paint(rng: Generator, sprite: Sprite, look: Look) -> Array:
    """Return the paint (h, w, 3) of an object, whose trim has a color of its own."""
    trim = _color(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.2, 0.95))
    return _mix(_coat(rng, look, sprite.at, BRIGHT), trim, 0.85 * sprite.trim)


def _coat(rng: Generator, look: Look, at: Array, tones: Tones) -> Array:
    """Return paint (h, w, 3): two related colors mixed by the pattern of the look."""
    hue = rng.choice(look.hues) + rng.normal(0, 0.03)
    saturation, value = rng.uniform(*tones.saturation), rng.uniform(*tones.value)
    step = rng.choice([-1, 1]) * rng.uniform(*tones.step)
    other = _color(hue + rng.normal(0, 0.05), saturation - step, value + step)
    grain = rng.uniform(0.1, 0.3) * tones.step[1] * (noise(rng, at)[..., None] - 0.5)
    return _mix(_color(hue, saturation, value), other, look.pattern(rng, at)) + grain


def _color(hue: float, saturation: float, value: float) -> Array:
    return np.array(colorsys.hsv_to_rgb(hue % 1, *np.clip((saturation, value), 0, 1)))


def _mix(first: Array, second: Array, weight: Array) -> Array:
    """Blend colors or images (h, w, 3) by the `weight` (h, w) of the second."""
    return first + (second - first) * weight[..., None]


def _cast_shadow(rng: Generator, canvas: Array, sprite: Sprite, light: Array) -> None:
    """Darken what lies behind a sprite, away from `light`, a unit vector (y, x)."""
    shadow = np.zeros(canvas.shape[:2])
    shadow[sprite.window] = sprite.alpha
    drop = np.rint(-light * sprite.size * rng.uniform(0.02, 0.08)).astype(int)
    shadow = gaussian_filter(np.roll(shadow, drop, axis=(0, 1)), rng.uniform(2, 6))
    canvas *= 1 - rng.uniform(0.1, 0.6) * shadow[..., None]


def _emboss(canvas: Array, sprite: Sprite, light: Array) -> None:
    """Brighten the edges of a sprite that face the `light` and darken the others."""
    radius = 0.05 * sprite.size
    soft = gaussian_filter(sprite.alpha, radius)
    slope = radius * np.tensordot(light, np.gradient(soft), axes=1)
    relief = 0.2 * soft - 0.2 - 0.8 * slope
    canvas[sprite.window] *= (1 + sprite.alpha * relief)[..., None]


def _expose(rng: Generator, canvas: Array) -> Bytes:
    """Photograph `canvas` in uneven light, with blur and noise, to (H, W, 3) uint8."""
    down, right = (np.linspace(-1, 1, n) * rng.uniform(-0.3, 0.3) for n in canvas.shape[:2])
    light = (1 + down[:, None] + right)[..., None] * rng.normal(1, 0.05, 3)
    seen = gaussian_filter(canvas * light, rng.uniform(0.2, 0.9), axes=(0, 1))
    seen += rng.normal(0, rng.uniform(0.01, 0.035), seen.shape)
    return np.asarray(255 * np.clip(seen, 0, 1), dtype=np.uint8)
