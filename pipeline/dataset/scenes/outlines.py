"""Silhouettes of the objects in generated scenes.

The y axis points down. The unit is arbitrary: objects are scaled when they are placed.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy.interpolate import PchipInterpolator

Array = npt.NDArray[np.float64]

# What a part of an object is painted with; a hole shows the background.
HOLE, BASE, TRIM = range(3)
Parts = list[tuple[int, Array]]


def rotation(angle: float) -> Array:
    """Return the matrix that turns row vectors by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s], [-s, c]])


def polygon(*coordinates: float) -> Array:
    """Return the corners x, y, x, y, ... as rows."""
    return np.array(coordinates).reshape(-1, 2)


def polar(radius: Array) -> Array:
    """Return the curve of `radius` (n,) at even angles, clockwise from the top."""
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    return np.column_stack([radius * np.sin(angle), -radius * np.cos(angle)])


def _oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Array:
    return polar(np.ones(48)) * (rx, ry) @ rotation(turn) + (x, y)


def limb(path: Sequence[tuple[float, float]], *widths: float) -> Array:
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
            (TRIM, limb([(0, -0.6), (0.1 * side, -0.85), (0.3 * side, -1.1)], 0.05)),
        ]
    return [*parts, (TRIM, limb([(0, -0.7), (0, 0.75)], 0.1, 0.13, 0.06))]


def _cactus(rng: Generator) -> Parts:
    thick, top = rng.uniform(0.24, 0.36), rng.uniform(-1.6, -1.1)
    parts = [(BASE, limb([(0, 0.8), (0, top)], thick))]
    for side in rng.permutation([-1, 1])[: rng.integers(1, 3)]:
        out, low, rise = rng.uniform((0.7, -0.3, 0.4), (0.95, 0.2, 0.9))
        path = [(0, low), (0.6 * out, low), (out, low - 0.2), (out, low - rise)]
        parts.append((BASE, limb(path, thick * 0.6) * (side, 1)))
    return [*parts, (TRIM, polygon(-0.62, 0.55, 0.62, 0.55, 0.45, 1.2, -0.45, 1.2))]


def _crab(rng: Generator) -> Parts:
    depth = rng.uniform(0.55, 0.75)
    pincer = polar(np.array([0.1, *np.ones(30), 0.1])) * (0.33, 0.42)
    parts = [(BASE, _oval(0, 0, 1, depth))]
    for side in (-1, 1):
        for y in (-0.05, 0.2, 0.42):
            knee, foot, drop = rng.uniform((1.25, 1.3, 0.35), (1.45, 1.75, 0.6))
            path = [(0.6 * side, y), (knee * side, y * 1.4 - 0.05), (foot * side, y + drop)]
            parts.append((BASE, limb(path, 0.13, 0.11, 0.06)))
        elbow, wrist, grip = rng.uniform((1.1, 0.75, -0.5), (1.35, 1.15, 0.2))
        parts += [
            (BASE, limb([(0.7 * side, -0.3), (elbow * side, -0.5), (wrist * side, -1)], 0.15)),
            (BASE, pincer @ rotation(grip * side) + (wrist * side, -1.2)),
            (TRIM, _oval(0.25 * side, -depth - 0.08, 0.1, 0.14)),
        ]
    return parts


def _fish(rng: Generator) -> Parts:
    deep, bend, fork, fan = rng.uniform((0.38, -0.2, 1.25, 0.4), (0.62, 0.2, 1.45, 0.6))
    back, belly = rng.uniform((0.2, 0.1), (0.4, 0.3))
    body = _turned((-1.1, 0), (-0.9, deep * 0.55), (-0.2, deep), (1, 0.16), (1.1, 0.12))[:, ::-1]
    body[:, 1] += bend * np.clip(body[:, 0], 0, None) ** 2
    return [
        (TRIM, polygon(-0.4, -deep * 0.8, 0.1, -deep - back, 0.65, -deep * 0.4)),
        (TRIM, polygon(-0.1, deep * 0.8, 0.35, deep + belly, 0.5, deep * 0.5)),
        (TRIM, polygon(0.9, bend, 1.7, 2 * bend - fan, fork, 1.5 * bend, 1.7, 2 * bend + fan)),
        (BASE, body),
        (TRIM, _oval(-0.72, -deep * 0.2, 0.09, 0.09)),
    ]


def _key(rng: Generator) -> Parts:
    ring, end, thick = rng.uniform((0.48, 1.5, 0.11), (0.65, 2, 0.16))
    parts = [(BASE, polygon(0.3, -thick, end, -thick, end, thick, 0.3, thick))]
    for left in end - 0.18 - 0.3 * np.arange(rng.integers(2, 4)):
        drop = rng.uniform(0.32, 0.55)
        parts.append((BASE, polygon(left, 0, left, drop, left + 0.18, drop, left + 0.18, 0)))
    return [
        *parts,
        (BASE, _oval(0, 0, ring, ring * rng.uniform(0.9, 1.25))),
        (HOLE, _oval(-0.08, 0, ring * 0.5, ring * rng.uniform(0.4, 0.6))),
    ]


def _kite(rng: Generator) -> Parts:
    wide, cross = rng.uniform(0.65, 0.95), rng.uniform(-0.45, -0.1)
    tail = [(0, 0.9), *zip(rng.uniform(-0.4, 0.4, 3), (1.35, 1.65, 1.95), strict=True)]
    bow = polygon(-0.24, -0.15, 0.24, 0.15, 0.24, -0.15, -0.24, 0.15)
    return [
        (BASE, limb(tail, 0.06)),
        *((TRIM, bow + knot) for knot in tail[1:]),
        (BASE, polygon(0, -1.1, wide, cross, 0, 1.1, -wide, cross)),
        (TRIM, polygon(0, -1.1, wide, cross, 0, cross)),
        (TRIM, polygon(0, 1.1, -wide, cross, 0, cross)),
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
        (BASE, limb([(0, top), (0, 0.6)], cuff, ankle, ankle)),
        (BASE, limb([(-0.3, 0.45), (0.4, 0.4), (toe, 0.62)], 0.4, 0.38, 0.26)),
        (TRIM, polygon(-0.5, 0.75, toe, 0.75, toe, 0.95, 0.2, 0.95, 0.1, 1.1, -0.5, 1.1)),
        (TRIM, polygon(-cuff, top, cuff, top, ankle, top + 0.3, -ankle, top + 0.3)),
    ]


def _cross(rng: Generator) -> Parts:
    arm, flare, boss = rng.uniform((0.18, 0.9, 0.15), (0.32, 1.7, 0.3))
    end = arm * flare
    bar = polygon(-end, -1, end, -1, arm, 0, end, 1, -end, 1, -arm, 0)
    return [(BASE, bar), (BASE, bar[:, ::-1]), (TRIM, _oval(0, 0, boss, boss))]


def _gear(rng: Generator) -> Parts:
    depth, hole = rng.uniform((0.72, 0.15), (0.84, 0.4))
    teeth = np.tile(np.repeat([1, depth], 4), rng.integers(7, 13))
    return [(BASE, polar(teeth)), (TRIM, _oval(0, 0, hole + 0.15, hole + 0.15)),
            (HOLE, _oval(0, 0, hole, hole))]


def _guitar(rng: Generator) -> Parts:
    waist, upper, end = rng.uniform((0.3, 0.42, -1.7), (0.42, 0.52, -1.3))
    return [
        (BASE, _turned((-0.5, 0.1), (-0.35, upper * 0.9), (-0.1, upper), (0.2, waist),
                       (0.7, 0.65), (1.05, 0.5), (1.15, 0.1))),
        (TRIM, limb([(0, 0.3), (0, end)], 0.09)),
        (BASE, _oval(0, end, 0.17, 0.22)),
        (TRIM, _oval(0, 0.4, 0.2, 0.2)),
    ]


def _hand(rng: Generator) -> Parts:
    fan, thick, thumb = rng.uniform((0.12, 0.13, 0.8), (0.25, 0.17, 1.1))
    parts = [(BASE, _oval(0, 0.2, 0.58, 0.6)),
             (BASE, limb([(0.2, 0.5), (0.75, 0.1), (thumb, -0.35)], 0.2, 0.17, 0.13))]
    for i, length in enumerate(rng.uniform((0.9, 1.1, 1.15, 1), (1.05, 1.25, 1.3, 1.15))):
        root, lean = 0.28 * i - 0.42, fan * (i - 1.5) * 1.5 + rng.uniform(-0.1, 0.1)
        parts.append((BASE, limb([(root, 0), (root + lean, -length)], thick)))
    return [*parts, (TRIM, polygon(-0.42, 0.65, 0.42, 0.65, 0.45, 1.1, -0.45, 1.1))]


def _leaf(rng: Generator) -> Parts:
    wide, low, jag, bend = rng.uniform((0.4, 0.1, 0, -0.3), (0.7, 0.5, 0.12, 0.3))
    blade = _turned((-1.2, 0), (-0.6, wide * 0.6), (low, wide), (0.8, wide * 0.5), (1, 0.02))
    blade[:, 0] *= 1 + jag * (np.arange(len(blade)) % 6 - 3) / 2
    return [(BASE, blade), (TRIM, limb([(0, -1), (0, 0.9), (bend, 1.6)], 0.03, 0.06, 0.07))]


def _mug(rng: Generator) -> Parts:
    tall, base, grip = rng.uniform((0.7, 0.55, 0.35), (1, 0.75, 0.55))
    return [
        (BASE, _oval(0.75, 0, grip, tall * 0.6)),
        (HOLE, _oval(0.75, 0, grip * 0.6, tall * 0.38)),
        (BASE, _turned((-tall, 0.75), (0, 0.72), (tall, base))),
        (TRIM, _oval(0, -tall, 0.75, 0.16)),
    ]


def _star(rng: Generator) -> Parts:
    outline = polar(np.tile([1, rng.uniform(0.4, 0.6)], rng.integers(5, 8)))
    return [(BASE, outline), (TRIM, outline * rng.uniform(0.3, 0.6))]


OUTLINES = {
    "bottle": _bottle, "butterfly": _butterfly, "cactus": _cactus, "crab": _crab,
    "fish": _fish, "key": _key, "kite": _kite, "mushroom": _mushroom,
    "boot": _boot, "cross": _cross, "gear": _gear, "guitar": _guitar,
    "hand": _hand, "leaf": _leaf, "mug": _mug, "star": _star,
}
