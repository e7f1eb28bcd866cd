"""Textures of generated scenes, and the appearance of their classes.

A pattern is a field (h, w) of about 0 to 1 that mixes two colors. Its argument `at` (2, h, w)
holds the coordinates across and along an object, in units of half its longer side.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from pipeline.dataset.scenes.outlines import OUTLINES, Array


def noise(rng: Generator, at: Array) -> Array:
    """Return a sum of octaves of random roughness, relative to the size of the field."""
    shape = at.shape[1:]
    total, fade = np.zeros(shape), rng.uniform(0.4, 0.8)
    for octave in range(6):
        grid = Image.fromarray(rng.random((3 << octave, 3 << octave), dtype=np.float32))
        total += fade**octave * np.asarray(grid.resize(shape[::-1], Image.Resampling.BICUBIC))
    total -= total.min()
    return np.asarray(total / total.max())


def _soft_step(field: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(3 * field))


def _checks(rng: Generator, at: Array) -> Array:
    return _soft_step(4 * np.sin(rng.uniform(7, 14) * at).prod(axis=0))


def _dots(rng: Generator, at: Array) -> Array:
    waves = np.cos(rng.uniform(8, 14) * at + rng.uniform(0, 6, (2, 1, 1)) + noise(rng, at))
    return _soft_step(waves.sum(axis=0) - rng.uniform(0.6, 1))


def _gloss(rng: Generator, at: Array) -> Array:
    offset = (at[0] - rng.uniform(-0.2, 0.2)) / rng.uniform(0.05, 0.12)
    return np.asarray(np.exp(-(offset**2)))


def _gradient(rng: Generator, at: Array) -> Array:
    ramp = 0.4 + rng.uniform(0.3, 0.6) * at[0] + 0.3 * noise(rng, at)
    return np.asarray(np.clip(ramp, 0, 1))


def _gravel(rng: Generator, at: Array) -> Array:
    """Return Voronoi cells of random shades with dark joints."""
    count = int(rng.integers(60, 500))
    stones = rng.uniform(at.min(axis=(1, 2)), at.max(axis=(1, 2)), (count, 2))
    distance, near = cKDTree(stones).query(np.moveaxis(at, 0, -1), k=2)
    joint = np.clip((distance[..., 1] - distance[..., 0]) * 2 * np.sqrt(count), 0, 1)
    return np.asarray(joint * rng.uniform(0.3, 1, count)[near[..., 0]])


def _rings(rng: Generator, at: Array) -> Array:
    radius = np.hypot(*at) + 0.15 * noise(rng, at)
    return _soft_step(2 * np.sin(rng.uniform(11, 17) * radius + rng.uniform(0, 6)))


def _scales(rng: Generator, at: Array) -> Array:
    """Return rows of arcs, every other row shifted by half an arc."""
    x, y = rng.uniform(4, 7) * at
    row = np.floor(x)
    across = (y + row % 2 / 2) % 1 - 0.5
    return np.asarray(np.clip(1.4 * np.hypot(x - row, 1.6 * across), 0, 1))


def _speckle(rng: Generator, at: Array) -> Array:
    fine = gaussian_filter(rng.standard_normal(at.shape[1:]), rng.uniform(0.8, 2))
    return _soft_step(fine / fine.std() - 0.7)


def _stripes(rng: Generator, at: Array) -> Array:
    wobble = rng.uniform(0, 1.5) * noise(rng, at)
    return _soft_step(np.sin(rng.uniform(10, 18) * at[0] + wobble + rng.uniform(0, 6)))


def _wood(rng: Generator, at: Array) -> Array:
    grain = noise(rng, at)
    rings = rng.uniform(2, 5) * at[0] + 0.3 * at[1] + rng.uniform(1, 3) * grain
    return np.asarray(0.7 * (rings % 1) + 0.3 * grain)


class Look(NamedTuple):
    """The appearance of the objects of a class."""

    pattern: Callable[[Generator, Array], Array]
    hues: tuple[float, ...]  # 0 to 1; an object has approximately one of them
    tilt: float  # maximum rotation, radians


PATTERNS = (
    *(_checks, _dots, _gradient, _gravel, noise),
    *(_rings, _scales, _speckle, _stripes, _wood),
)
LOOKS = {
    "bottle": Look(_gloss, (0.36, 0.08, 0.55), 0.5),
    "butterfly": Look(_rings, (0.78, 0.12, 0.58), 0.7),
    "cactus": Look(_stripes, (0.27, 0.36), 0.2),
    "crab": Look(_speckle, (0.02, 0.97, 0.6), 0.4),
    "fish": Look(_scales, (0.55, 0.48, 0.1), 0.5),
    "key": Look(noise, (0.13, 0.1), 3.1),
    "kite": Look(_checks, (0.92, 0.66, 0.33), 0.7),
    "mushroom": Look(_dots, (0.0, 0.06), 0.4),
}
CLASSES: tuple[str, ...] = tuple(LOOKS)
SOURCE_CLASSES: tuple[str, ...] = tuple(name for name in OUTLINES if name not in LOOKS)
