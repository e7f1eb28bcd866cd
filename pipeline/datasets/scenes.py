"""Generated scenes: textured objects that overlap on textured clutter, with exact masks.

Target scenes show `CLASSES` and are written as Pascal VOC; source scenes show other silhouettes,
`SOURCE_CLASSES`, and are written as COCO. An image depends on nothing but the seed, the name of
its list and its index.
"""

import colorsys
import json
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image, ImageDraw
from pycocotools import mask as rle
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import find_objects, gaussian_filter, grey_dilation
from scipy.spatial import cKDTree

Array = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Progress = Callable[[Iterable[int], int], Iterable[int]]

# --- Outlines. Here y points down and any unit will do: placing an object sets its long side.

# What a part of an object is painted with; a hole shows what lies behind the object.
HOLE, BASE, TRIM = range(3)
Parts = list[tuple[int, Array]]


def _rotation(angle: float) -> Array:
    """Return the matrix that turns row vectors by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s], [-s, c]])


def _polygon(*coordinates: float) -> Array:
    """Return the corners x, y, x, y, ... as rows."""
    return np.array(coordinates).reshape(-1, 2)


def _polar(radius: Array) -> Array:
    """Return the curve of `radius` (n,) at even angles, clockwise from the top."""
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    return np.column_stack([radius * np.sin(angle), -radius * np.cos(angle)])


def _oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Array:
    return _polar(np.ones(48)) * (rx, ry) @ _rotation(turn) + (x, y)


def _limb(path: Sequence[tuple[float, float]], *widths: float) -> Array:
    """Return a rounded band along `path`, of half widths `widths` from its start to its end."""
    t = np.linspace(0, 1, 48)
    spine = PchipInterpolator(np.linspace(0, 1, len(path)), np.array(path))(t)
    along = np.gradient(spine, axis=0)
    across = along[:, ::-1] * (-1, 1) / np.linalg.norm(along, axis=1, keepdims=True)
    half = np.interp(t, np.linspace(0, 1, len(widths)), widths) * np.sqrt(1 - (2 * t - 1) ** 16)
    side = across * half[:, None]
    return np.concatenate([spine + side, (spine - side)[::-1]])


def _turned(*profile: tuple[float, float]) -> Array:
    """Return a shape symmetric about the y axis from pairs of height and half width."""
    heights, widths = np.array(profile).T
    y = np.linspace(heights[0], heights[-1], 64)
    x = PchipInterpolator(heights, widths)(y)
    return np.concatenate([np.column_stack([x, y]), np.column_stack([-x, y])[::-1]])


# A row of coordinates reads better than a column of them.
# fmt: off


def _bottle(rng: Generator) -> Parts:
    neck, shoulder = rng.uniform(0.13, 0.2), rng.uniform(-0.5, -0.1)
    belly, top = rng.uniform(0.38, 0.55), rng.uniform(0.1, 0.5)
    return [
        (BASE, _turned((-1.4, neck), (shoulder - 0.45, neck), (shoulder + 0.1, belly),
                       (1.25, belly), (1.35, belly * 0.9))),
        (TRIM, _turned((-1.55, neck * 1.3), (-1.3, neck * 1.3))),
        (TRIM, _turned((top, belly), (top + rng.uniform(0.3, 0.6), belly))),
    ]


def _butterfly(rng: Generator) -> Parts:
    spread, upper, lower = rng.uniform((0.6, 0.5, 0.5), (1.05, 0.9, 0.9))
    fore, hind = rng.uniform((0.65, 0.45), (0.8, 0.6))
    parts = []
    for side in (-1, 1):
        parts += [
            (BASE, _oval(0.58, -0.42, fore, 0.36, -upper) * (side * spread, 1)),
            (BASE, _oval(0.42, 0.42, hind, 0.36, lower) * (side * spread, 1)),
            (TRIM, _limb([(0, -0.6), (0.1 * side, -0.85), (0.3 * side, -1.1)], 0.05)),
        ]
    return [*parts, (TRIM, _limb([(0, -0.7), (0, 0.75)], 0.1, 0.13, 0.06))]


def _cactus(rng: Generator) -> Parts:
    thick, top = rng.uniform(0.24, 0.36), rng.uniform(-1.6, -1.1)
    parts = [(BASE, _limb([(0, 0.8), (0, top)], thick))]
    for side in rng.permutation([-1, 1])[: rng.integers(1, 3)]:
        out, low, rise = rng.uniform((0.7, -0.3, 0.4), (0.95, 0.2, 0.9))
        path = [(0, low), (0.6 * out, low), (out, low - 0.2), (out, low - rise)]
        parts.append((BASE, _limb(path, thick * 0.6) * (side, 1)))
    return [*parts, (TRIM, _polygon(-0.62, 0.55, 0.62, 0.55, 0.45, 1.2, -0.45, 1.2))]


def _crab(rng: Generator) -> Parts:
    depth = rng.uniform(0.55, 0.75)
    pincer = _polar(np.array([0.1, *np.ones(30), 0.1])) * (0.33, 0.42)
    parts = [(BASE, _oval(0, 0, 1, depth))]
    for side in (-1, 1):
        for y in (-0.05, 0.2, 0.42):
            knee, foot, drop = rng.uniform((1.25, 1.3, 0.35), (1.45, 1.75, 0.6))
            path = [(0.6 * side, y), (knee * side, y * 1.4 - 0.05), (foot * side, y + drop)]
            parts.append((BASE, _limb(path, 0.13, 0.11, 0.06)))
        elbow, wrist, grip = rng.uniform((1.1, 0.75, -0.5), (1.35, 1.15, 0.2))
        parts += [
            (BASE, _limb([(0.7 * side, -0.3), (elbow * side, -0.5), (wrist * side, -1)], 0.15)),
            (BASE, pincer @ _rotation(grip * side) + (wrist * side, -1.2)),
            (TRIM, _oval(0.25 * side, -depth - 0.08, 0.1, 0.14)),
        ]
    return parts


def _fish(rng: Generator) -> Parts:
    deep, bend, fork, fan = rng.uniform((0.38, -0.2, 1.25, 0.4), (0.62, 0.2, 1.45, 0.6))
    back, belly = rng.uniform((0.2, 0.1), (0.4, 0.3))
    body = _turned((-1.1, 0), (-0.9, deep * 0.55), (-0.2, deep), (1, 0.16), (1.1, 0.12))[:, ::-1]
    body[:, 1] += bend * np.clip(body[:, 0], 0, None) ** 2
    return [
        (TRIM, _polygon(-0.4, -deep * 0.8, 0.1, -deep - back, 0.65, -deep * 0.4)),
        (TRIM, _polygon(-0.1, deep * 0.8, 0.35, deep + belly, 0.5, deep * 0.5)),
        (TRIM, _polygon(0.9, bend, 1.7, 2 * bend - fan, fork, 1.5 * bend, 1.7, 2 * bend + fan)),
        (BASE, body),
        (TRIM, _oval(-0.72, -deep * 0.2, 0.09, 0.09)),
    ]


def _key(rng: Generator) -> Parts:
    ring, end, thick = rng.uniform((0.48, 1.5, 0.11), (0.65, 2, 0.16))
    parts = [(BASE, _polygon(0.3, -thick, end, -thick, end, thick, 0.3, thick))]
    for left in end - 0.18 - 0.3 * np.arange(rng.integers(2, 4)):
        drop = rng.uniform(0.32, 0.55)
        parts.append((BASE, _polygon(left, 0, left, drop, left + 0.18, drop, left + 0.18, 0)))
    return [
        *parts,
        (BASE, _oval(0, 0, ring, ring * rng.uniform(0.9, 1.25))),
        (HOLE, _oval(-0.08, 0, ring * 0.5, ring * rng.uniform(0.4, 0.6))),
    ]


def _kite(rng: Generator) -> Parts:
    wide, cross = rng.uniform(0.65, 0.95), rng.uniform(-0.45, -0.1)
    tail = [(0, 0.9), *zip(rng.uniform(-0.4, 0.4, 3), (1.35, 1.65, 1.95), strict=True)]
    bow = _polygon(-0.24, -0.15, 0.24, 0.15, 0.24, -0.15, -0.24, 0.15)
    return [
        (BASE, _limb(tail, 0.06)),
        *((TRIM, bow + knot) for knot in tail[1:]),
        (BASE, _polygon(0, -1.1, wide, cross, 0, 1.1, -wide, cross)),
        (TRIM, _polygon(0, -1.1, wide, cross, 0, cross)),
        (TRIM, _polygon(0, 1.1, -wide, cross, 0, cross)),
    ]


def _mushroom(rng: Generator) -> Parts:
    dome, droop, tall = rng.uniform((0.6, 0.05, 0.6), (1, 0.25, 1.3))
    thick, bulge = rng.uniform((0.2, 1.1), (0.32, 1.7))
    return [
        (TRIM, _turned((-0.1, thick), (tall * 0.4, thick), (tall * 0.85, thick * bulge),
                       (tall, thick * bulge * 0.8))),
        (BASE, _turned((-dome, 0.05), (-dome * 0.95, 0.35), (-dome * 0.5, 0.82), (0, 1),
                       (droop, 0.9), (droop + 0.06, 0.5))),
    ]


def _boot(rng: Generator) -> Parts:
    top, ankle, toe = rng.uniform((-1.3, 0.4, 0.9), (-0.7, 0.55, 1.4))
    cuff = ankle * 1.2
    return [
        (BASE, _limb([(0, top), (0, 0.6)], cuff, ankle, ankle)),
        (BASE, _limb([(-0.3, 0.45), (0.4, 0.4), (toe, 0.62)], 0.4, 0.38, 0.26)),
        (TRIM, _polygon(-0.5, 0.75, toe, 0.75, toe, 0.95, 0.2, 0.95, 0.1, 1.1, -0.5, 1.1)),
        (TRIM, _polygon(-cuff, top, cuff, top, ankle, top + 0.3, -ankle, top + 0.3)),
    ]


def _cross(rng: Generator) -> Parts:
    arm, flare, boss = rng.uniform((0.18, 0.9, 0.15), (0.32, 1.7, 0.3))
    end = arm * flare
    bar = _polygon(-end, -1, end, -1, arm, 0, end, 1, -end, 1, -arm, 0)
    return [(BASE, bar), (BASE, bar[:, ::-1]), (TRIM, _oval(0, 0, boss, boss))]


def _gear(rng: Generator) -> Parts:
    depth, hole = rng.uniform((0.72, 0.15), (0.84, 0.4))
    teeth = np.tile(np.repeat([1, depth], 4), rng.integers(7, 13))
    return [(BASE, _polar(teeth)), (TRIM, _oval(0, 0, hole + 0.15, hole + 0.15)),
            (HOLE, _oval(0, 0, hole, hole))]


def _guitar(rng: Generator) -> Parts:
    waist, upper, end = rng.uniform((0.3, 0.42, -1.7), (0.42, 0.52, -1.3))
    return [
        (BASE, _turned((-0.5, 0.1), (-0.35, upper * 0.9), (-0.1, upper), (0.2, waist),
                       (0.7, 0.65), (1.05, 0.5), (1.15, 0.1))),
        (TRIM, _limb([(0, 0.3), (0, end)], 0.09)),
        (BASE, _oval(0, end, 0.17, 0.22)),
        (TRIM, _oval(0, 0.4, 0.2, 0.2)),
    ]


def _hand(rng: Generator) -> Parts:
    fan, thick, thumb = rng.uniform((0.12, 0.13, 0.8), (0.25, 0.17, 1.1))
    parts = [(BASE, _oval(0, 0.2, 0.58, 0.6)),
             (BASE, _limb([(0.2, 0.5), (0.75, 0.1), (thumb, -0.35)], 0.2, 0.17, 0.13))]
    for i, length in enumerate(rng.uniform((0.9, 1.1, 1.15, 1), (1.05, 1.25, 1.3, 1.15))):
        root, lean = 0.28 * i - 0.42, fan * (i - 1.5) * 1.5 + rng.uniform(-0.1, 0.1)
        parts.append((BASE, _limb([(root, 0), (root + lean, -length)], thick)))
    return [*parts, (TRIM, _polygon(-0.42, 0.65, 0.42, 0.65, 0.45, 1.1, -0.45, 1.1))]


def _leaf(rng: Generator) -> Parts:
    wide, low, jag, bend = rng.uniform((0.4, 0.1, 0, -0.3), (0.7, 0.5, 0.12, 0.3))
    blade = _turned((-1.2, 0), (-0.6, wide * 0.6), (low, wide), (0.8, wide * 0.5), (1, 0.02))
    blade[:, 0] *= 1 + jag * (np.arange(len(blade)) % 6 - 3) / 2
    return [(BASE, blade), (TRIM, _limb([(0, -1), (0, 0.9), (bend, 1.6)], 0.03, 0.06, 0.07))]


def _mug(rng: Generator) -> Parts:
    tall, base, grip = rng.uniform((0.7, 0.55, 0.35), (1, 0.75, 0.55))
    return [
        (BASE, _oval(0.75, 0, grip, tall * 0.6)),
        (HOLE, _oval(0.75, 0, grip * 0.6, tall * 0.38)),
        (BASE, _turned((-tall, 0.75), (0, 0.72), (tall, base))),
        (TRIM, _oval(0, -tall, 0.75, 0.16)),
    ]


def _star(rng: Generator) -> Parts:
    outline = _polar(np.tile([1, rng.uniform(0.4, 0.6)], rng.integers(5, 8)))
    return [(BASE, outline), (TRIM, outline * rng.uniform(0.3, 0.6))]


OUTLINES = {
    "bottle": _bottle, "butterfly": _butterfly, "cactus": _cactus, "crab": _crab,
    "fish": _fish, "key": _key, "kite": _kite, "mushroom": _mushroom,
    "boot": _boot, "cross": _cross, "gear": _gear, "guitar": _guitar,
    "hand": _hand, "leaf": _leaf, "mug": _mug, "star": _star,
}

# fmt: on

# --- Patterns: fields (h, w) of about 0 to 1 that mix two colours. `at` (2, h, w) holds the
# coordinates across and along an object, in half long sides.


def _noise(rng: Generator, at: Array) -> Array:
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
    waves = np.cos(rng.uniform(8, 14) * at + rng.uniform(0, 6, (2, 1, 1)) + _noise(rng, at))
    return _soft_step(waves.sum(axis=0) - rng.uniform(0.6, 1))


def _gloss(rng: Generator, at: Array) -> Array:
    offset = (at[0] - rng.uniform(-0.2, 0.2)) / rng.uniform(0.05, 0.12)
    return np.asarray(np.exp(-(offset**2)))


def _gradient(rng: Generator, at: Array) -> Array:
    ramp = 0.4 + rng.uniform(0.3, 0.6) * at[0] + 0.3 * _noise(rng, at)
    return np.asarray(np.clip(ramp, 0, 1))


def _gravel(rng: Generator, at: Array) -> Array:
    """Return Voronoi cells of random shades with dark joints."""
    count = int(rng.integers(60, 500))
    stones = rng.uniform(at.min(axis=(1, 2)), at.max(axis=(1, 2)), (count, 2))
    distance, near = cKDTree(stones).query(np.moveaxis(at, 0, -1), k=2)
    joint = np.clip((distance[..., 1] - distance[..., 0]) * 2 * np.sqrt(count), 0, 1)
    return np.asarray(joint * rng.uniform(0.3, 1, count)[near[..., 0]])


def _rings(rng: Generator, at: Array) -> Array:
    radius = np.hypot(*at) + 0.15 * _noise(rng, at)
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
    wobble = rng.uniform(0, 1.5) * _noise(rng, at)
    return _soft_step(np.sin(rng.uniform(10, 18) * at[0] + wobble + rng.uniform(0, 6)))


def _wood(rng: Generator, at: Array) -> Array:
    grain = _noise(rng, at)
    rings = rng.uniform(2, 5) * at[0] + 0.3 * at[1] + rng.uniform(1, 3) * grain
    return np.asarray(0.7 * (rings % 1) + 0.3 * grain)


class Look(NamedTuple):
    """How objects of a class are painted and held."""

    pattern: Callable[[Generator, Array], Array]
    hues: tuple[float, ...]  # 0 to 1, one of which an object has about
    tilt: float  # largest rotation, radians


PATTERNS = (
    *(_checks, _dots, _gradient, _gravel, _noise),
    *(_rings, _scales, _speckle, _stripes, _wood),
)
LOOKS = {
    "bottle": Look(_gloss, (0.36, 0.08, 0.55), 0.5),
    "butterfly": Look(_rings, (0.78, 0.12, 0.58), 0.7),
    "cactus": Look(_stripes, (0.27, 0.36), 0.2),
    "crab": Look(_speckle, (0.02, 0.97, 0.6), 0.4),
    "fish": Look(_scales, (0.55, 0.48, 0.1), 0.5),
    "key": Look(_noise, (0.13, 0.1), 3.1),
    "kite": Look(_checks, (0.92, 0.66, 0.33), 0.7),
    "mushroom": Look(_dots, (0.0, 0.06), 0.4),
}
CLASSES: tuple[str, ...] = tuple(LOOKS)
SOURCE_CLASSES: tuple[str, ...] = tuple(name for name in OUTLINES if name not in LOOKS)

# What is seen together: a target scene draws its objects from one of these.
PLACES = (
    ("crab", "crab", "fish", "fish", "bottle", "kite"),
    ("mushroom", "mushroom", "butterfly", "butterfly", "cactus"),
    ("key", "key", "bottle", "bottle", "mushroom"),
    ("kite", "kite", "butterfly", "cactus", "cactus"),
    CLASSES,
)

# --- Scenes

ASPECTS = (4 / 3, 3 / 4, 1.0, 3 / 2)
OBJECTS = (1, 1, 2, 2, 2, 3, 3, 4, 5, 6)  # how many a scene has, one entry as likely as another
SUPERSAMPLING = 3
MIN_SHARE, MIN_PIXELS = 0.4, 150  # less of an object is not worth a mask
EASY_SHARE, EASY_PIXELS = 0.5, 240  # less of an object is marked difficult


class Sprite(NamedTuple):
    """An object in its place; the arrays cover its window in the frame."""

    size: float  # long side, pixels
    area: int  # pixels of the silhouette, those beyond the frame included
    window: tuple[slice, slice]
    alpha: Array  # (h, w) coverage, 0 to 1
    trim: Array  # (h, w) coverage by parts painted as trim, 0 to 1
    at: Array  # (2, h, w) coordinates for patterns


class Scene(NamedTuple):
    """A photograph with its instances, numbered from 1, back to front."""

    image: Bytes  # (H, W, 3)
    labels: Bytes  # (H, W), 0 or the number of the instance seen there
    names: list[str]
    shares: list[float]  # visible part of each silhouette


def _target_scene(seed: int, list_name: str, index: int) -> Scene:
    rng = _generator(seed, list_name, index)
    place = PLACES[rng.integers(len(PLACES))]
    return _draw_scene(rng, rng.choice(place, rng.choice(OBJECTS)).tolist())


def _source_scene(seed: int, index: int) -> Scene:
    rng = _generator(seed, "source", index)
    return _draw_scene(rng, rng.choice(SOURCE_CLASSES, rng.choice(OBJECTS)).tolist())


def _generator(seed: int, list_name: str, index: int) -> Generator:
    return np.random.default_rng([seed, zlib.crc32(list_name.encode()), index])


def _draw_scene(rng: Generator, names: Sequence[str]) -> Scene:
    """Draw objects of the classes `names`, as far as there is room."""
    long, aspect = rng.integers(256, 321), rng.choice(ASPECTS)
    frame = round(long * min(1, 1 / aspect)), round(long * min(1, aspect))
    stack, labels = _arrange(rng, names, frame)
    canvas = _clutter(rng, frame)
    light = np.array([0, 1]) @ _rotation(rng.uniform(-np.pi, np.pi))
    for _, look, sprite in stack:
        _cast_shadow(rng, canvas, sprite, light)
        _lay(rng, canvas, sprite, look)
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
        size = max(frame) * rng.uniform(0.3, 0.95 - 0.07 * len(names))
        for _ in range(8):
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
    """Turn `parts`, scale their long side to `size` pixels and put them somewhere in `frame`."""
    turn = np.diag([rng.choice([-1, 1]), 1]) @ _rotation(rng.uniform(-tilt, tilt))
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
    top, left = (int(rng.uniform(0.1, 0.9) * extent - side / 2) for extent in frame)
    window = slice(max(top, 0), top + side), slice(max(left, 0), left + side)
    inside = slice(max(-top, 0), frame[0] - top), slice(max(-left, 0), frame[1] - left)
    area = int((layers[0] > 0.5).sum())
    return Sprite(size, area, window, layers[0][inside], layers[1][inside], at[:, *inside])


def _clutter(rng: Generator, frame: tuple[int, int]) -> Array:
    """Paint a background (H, W, 3): textured ground with flat scraps, unevenly dark."""
    y, x = (np.mgrid[: frame[0], : frame[1]] - max(frame) / 2) * 2 / max(frame)
    turn = _rotation(rng.uniform(-np.pi, np.pi)) * rng.uniform(0.5, 2.5)
    at = np.tensordot(turn, np.stack([x, y]), axes=1)
    canvas = _coat(rng, _any_look(rng), at)
    for _ in range(rng.integers(2, 8)):
        size = max(frame) * rng.uniform(0.1, 0.6)
        _lay(rng, canvas, _cut_out(rng, _scrap(rng), size, np.pi, frame), _any_look(rng))
    return canvas * (1 - rng.uniform(0, 0.5) * _noise(rng, at)[..., None])


def _scrap(rng: Generator) -> Parts:
    """Return a patch or a stroke, which is no object."""
    if rng.random() < 0.4:
        path = np.cumsum(rng.normal(size=(5, 2)), axis=0).tolist()
        return [(BASE, _limb(path, *rng.uniform(0.05, 0.3, 3)))]
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    waves = [rng.normal() / n**2 * np.cos(n * angle + rng.uniform(0, 6)) for n in range(2, 7)]
    return [(BASE, _polar(np.maximum(1 + np.sum(waves, axis=0), 0.2)) * (1, rng.uniform(0.3, 1)))]


def _any_look(rng: Generator) -> Look:
    return Look(PATTERNS[rng.integers(len(PATTERNS))], (rng.random(),), tilt=0.7)


def _lay(rng: Generator, canvas: Array, sprite: Sprite, look: Look) -> None:
    """Paint a flat sprite on `canvas` (H, W, 3)."""
    trim = _colour(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.2, 0.95))
    paint = _mix(_coat(rng, look, sprite.at), trim, 0.85 * sprite.trim)
    canvas[sprite.window] = _mix(canvas[sprite.window], paint, sprite.alpha)


def _coat(rng: Generator, look: Look, at: Array) -> Array:
    """Return paint (h, w, 3): two related colours mixed by the pattern of the look."""
    hue = rng.choice(look.hues) + rng.normal(0, 0.03)
    saturation, value = rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.85)
    step = rng.choice([-1, 1]) * rng.uniform(0.2, 0.45)
    other = _colour(hue + rng.normal(0, 0.05), saturation - step, value + step)
    grain = rng.uniform(0.1, 0.3) * (_noise(rng, at)[..., None] - 0.5)
    return _mix(_colour(hue, saturation, value), other, look.pattern(rng, at)) + grain


def _colour(hue: float, saturation: float, value: float) -> Array:
    return np.array(colorsys.hsv_to_rgb(hue % 1, *np.clip((saturation, value), 0, 1)))


def _mix(first: Array, second: Array, weight: Array) -> Array:
    """Blend colours or images (h, w, 3) by the `weight` (h, w) of the second."""
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


# --- Files

VOID = 255


def _quietly(items: Iterable[int], _total: int) -> Iterable[int]:
    return items


def draw_voc(
    folder: Path, lists: Mapping[str, int], seed: int, progress: Progress = _quietly
) -> None:
    """Write target scenes as Pascal VOC.

    Parameters
    ----------
    folder : Path
        Gets JPEGImages, Annotations, SegmentationObject, SegmentationClass and ImageSets.
    lists : mapping from str to int
        Number of images of each list, such as ``{"train": 240, "val": 80}``; lists share none.
    seed : int
        Not negative.
    progress : callable
        Called once a list with the indices of its images and their number; yields the indices.
    """
    for name in ("JPEGImages", "Annotations", "SegmentationObject", "SegmentationClass"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for list_name, count in lists.items():
        shown = {}
        for k in progress(range(count), count):
            stem, scene = f"{list_name}_{k:06d}", _target_scene(seed, list_name, k)
            _save_photograph(folder / "JPEGImages" / f"{stem}.jpg", scene)
            _save_annotation(folder / "Annotations" / f"{stem}.xml", folder.name, scene)
            _save_masks(folder, f"{stem}.png", scene)
            shown[stem] = _presence(scene)
        _save_lists(folder / "ImageSets", list_name, shown)


def _save_photograph(path: Path, scene: Scene) -> None:
    Image.fromarray(scene.image).save(path, quality=92)


def _save_annotation(path: Path, folder: str, scene: Scene) -> None:
    """Write boxes as VOC does: counted from 1, their last pixels included."""
    height, width = scene.labels.shape
    nodes = [_element("size", width=width, height=height, depth=3)]
    windows = find_objects(scene.labels)
    for name, difficult, (y, x) in zip(scene.names, _difficult(scene), windows, strict=True):
        box = _element("bndbox", xmin=x.start + 1, ymin=y.start + 1, xmax=x.stop, ymax=y.stop)
        nodes.append(_element("object", box, name=name, difficult=int(difficult)))
    root = _element("annotation", *nodes, folder=folder, filename=f"{path.stem}.jpg", segmented=1)
    ET.indent(root, "\t")
    path.write_text(ET.tostring(root, encoding="unicode"))


def _element(tag: str, *children: ET.Element, **texts: object) -> ET.Element:
    """Return a node with its simple fields, `texts`, before its other `children`."""
    node = ET.Element(tag)
    for field, text in texts.items():
        ET.SubElement(node, field).text = str(text)
    node.extend(children)
    return node


def _save_masks(folder: Path, name: str, scene: Scene) -> None:
    numbers = np.array([0, *(CLASSES.index(c) + 1 for c in scene.names)], dtype=np.uint8)
    rim = grey_dilation(scene.labels, (3, 3)) != scene.labels
    masks = {"SegmentationObject": scene.labels, "SegmentationClass": numbers[scene.labels]}
    for part, mask in masks.items():
        image = Image.fromarray(np.where(rim, np.uint8(VOID), mask))
        image.putpalette(_voc_palette())
        image.save(folder / part / name)


def _voc_palette() -> list[int]:
    """Return 256 times RGB: the bits of an index, dealt out to the channels from the top."""
    index, channel = np.arange(256)[:, None], np.arange(3)
    bits = [(index >> (3 * k + channel) & 1) << (7 - k) for k in range(3)]
    return [int(value) for value in np.sum(bits, axis=0).ravel()]


def _difficult(scene: Scene) -> list[bool]:
    """Return for each instance whether it is very small or mostly hidden."""
    areas = np.bincount(scene.labels.ravel())[1:].tolist()
    return [
        area < EASY_PIXELS or share < EASY_SHARE
        for area, share in zip(areas, scene.shares, strict=True)
    ]


def _presence(scene: Scene) -> dict[str, int]:
    """Return 1 for a class seen, 0 for one with difficult instances only, -1 for one not seen."""
    presence = dict.fromkeys(CLASSES, -1)
    for name, difficult in zip(scene.names, _difficult(scene), strict=True):
        presence[name] = max(presence[name], int(not difficult))
    return presence


def _save_lists(folder: Path, list_name: str, shown: Mapping[str, Mapping[str, int]]) -> None:
    """Write the ids of a list, and per class the ids with what the images show."""
    for part in ("Main", "Segmentation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / f"{list_name}.txt").write_text("".join(f"{stem}\n" for stem in shown))
    for c in CLASSES:
        lines = (f"{stem} {presence[c]:2d}\n" for stem, presence in shown.items())
        (folder / "Main" / f"{c}_{list_name}.txt").write_text("".join(lines))


def draw_coco(folder: Path, images: int, seed: int, progress: Progress = _quietly) -> None:
    """Write source scenes as COCO: `folder`/images and `folder`/instances.json.

    Parameters
    ----------
    folder : Path
        Created if it is missing.
    images : int
        Number of images.
    seed : int
        Not negative.
    progress : callable
        Called with the indices of the images and their number; yields the indices.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    categories = [{"id": i, "name": name} for i, name in enumerate(SOURCE_CLASSES, 1)]
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for k in progress(range(images), images):
        scene, file = _source_scene(seed, k), f"{k:06d}.jpg"
        _save_photograph(folder / "images" / file, scene)
        height, width = scene.labels.shape
        entries.append({"id": k + 1, "file_name": file, "height": height, "width": width})
        annotations += _coco_annotations(scene, k + 1, len(annotations) + 1)
    document = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))


def _coco_annotations(scene: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    numbers = np.arange(1, len(scene.names) + 1)
    masks = np.asfortranarray(scene.labels[..., None] == numbers, dtype=np.uint8)
    return [
        {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": SOURCE_CLASSES.index(scene.names[i]) + 1,
            "bbox": rle.toBbox(code).tolist(),
            "area": int(rle.area(code)),
            "iscrowd": 0,
            "segmentation": {**code, "counts": code["counts"].decode("ascii")},
        }
        for i, code in enumerate(rle.encode(masks))
    ]
