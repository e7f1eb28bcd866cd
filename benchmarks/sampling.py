"""Draws for the images of a training set with 1,000 proposals each, and the size of a stored mask.

The masks are random smooth shapes. Each image has another thousand from a pool, and random peaks.
Both sides run in this process, from the stores to the draws.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import zarr

from benchmarks.refinement import HEIGHT, PROPOSALS, WIDTH, blobs
from benchmarks.table import Line, side_by_side
from pipeline.artifacts.peaks import Peaks, PeakStore, PeakWriter
from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.common import masks
from pipeline.pseudo_masks.sampler import Sampler, SamplerParameters

IMAGES = 32
POOL = 2000
PEAKS = 3
PARAMETERS = SamplerParameters(
    temperature=1.0, agreement_power=0.0, max_overlap=1.0, draws_per_peak=34, seed=0
)
IDS = [f"{number}" for number in range(IMAGES)]


def lines() -> Iterator[Line]:
    """Yield milliseconds per image, and bytes per mask."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_stores(folder)
        ours, theirs = side_by_side(partial(sample, folder), partial(plain, folder), runs=3)
        each = 1000 / IMAGES
        yield Line(
            f"draws for an image of {PROPOSALS:,} proposals, {PEAKS} peaks, "
            f"{PARAMETERS.draws_per_peak} epochs, from the stores",
            "ms per image",
            ours * each,
            "masks decoded, one draw per epoch",
            theirs * each,
            "one process",
        )
        yield Line(
            f"a stored mask of {HEIGHT}x{WIDTH}",
            "bytes",
            stored(folder / "proposals") / (IMAGES * PROPOSALS),
            "zarr's default, Boolean",
            stored(write_plain(folder)) / PROPOSALS,
            "smooth shapes; ragged ones take more",
        )


def sample(folder: Path) -> None:
    """Draw as the stage `sampler` does."""
    sampler = Sampler(folder / "peaks", folder / "proposals", PARAMETERS)
    for image_id in IDS:
        sampler(image_id)


def plain(folder: Path) -> None:
    """Draw from decoded masks, one proposal per peak and epoch."""
    rng = np.random.default_rng(0)
    peak_store, proposal_store = PeakStore(folder / "peaks"), ProposalStore(folder / "proposals")
    for image_id in IDS:
        peaks, proposals = peak_store.peaks(image_id), proposal_store.proposals(image_id)
        inside = masks.decode(proposals.masks, HEIGHT, WIDTH)[:, peaks.y, peaks.x]
        for candidates in inside.T[inside.any(0)]:
            chances = np.where(candidates, proposals.score, 0).astype(np.float64)
            for _ in range(PARAMETERS.draws_per_peak):
                rng.choice(PROPOSALS, p=chances / chances.sum())


def write_plain(folder: Path) -> Path:
    """Write the masks of an image as a Boolean array with zarr's defaults."""
    proposals = ProposalStore(folder / "proposals").proposals(IDS[0])
    zarr.save_array(folder / "plain", masks.decode(proposals.masks, HEIGHT, WIDTH))
    return folder / "plain"


def stored(folder: Path) -> int:
    """Return the size of all files of a store, in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def write_stores(folder: Path) -> None:
    """Write peaks and proposals of `IMAGES` images."""
    rng = np.random.default_rng(0)
    pool = masks.encode(blobs(POOL, rng))
    with (
        ProposalWriter(folder / "proposals", "random", "none", {}) as proposals,
        PeakWriter(folder / "peaks", ("object",), {}) as peaks,
    ):
        for image_id in IDS:
            chosen = [pool[k] for k in rng.choice(POOL, PROPOSALS, replace=False)]
            score = np.sort(rng.random(PROPOSALS, np.float32))[::-1]
            proposals.add(image_id, HEIGHT, WIDTH, Proposals(chosen, score))
            found = Peaks(
                label=np.zeros(PEAKS, np.int16),
                y=rng.integers(0, HEIGHT, PEAKS).astype(np.int32),
                x=rng.integers(0, WIDTH, PEAKS).astype(np.int32),
                value=np.ones(PEAKS, np.float32),
                response=np.ones((PEAKS, 1, 1), np.float32),
            )
            peaks.add(image_id, HEIGHT, WIDTH, found)
