"""How long it takes to draw for 1,464 images of 1,000 proposals, and what a stored mask takes.

The masks are random smooth shapes; every image has another thousand out of a pool, and peaks at
random. Drawing is timed as the stage does it, after the stores are open: in `WISE_WORKERS`
processes, from the stores to the draws. Run as `python -m benchmarks.sampling`.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.refinement import HEIGHT, PROPOSALS, WIDTH, blobs
from pipeline import masks, runtime
from pipeline.artifacts.peaks import Peaks, PeakWriter
from pipeline.artifacts.proposals import Proposals, ProposalWriter
from pipeline.parallel import ordered_map
from pipeline.sampler import Sampler, SamplerParameters

IMAGES = 1464
POOL = 2000
PEAKS = 3
PARAMETERS = SamplerParameters(temperature=1.0, visits=34, seed=0)


def main() -> None:
    """Print bytes a mask, seconds of all images, and the number of draws."""
    runtime.keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_stores(folder)
        files = [file for file in (folder / "proposals").rglob("*") if file.is_file()]
        stored = sum(file.stat().st_size for file in files) / (IMAGES * PROPOSALS)
        print(f"{IMAGES} x {PROPOSALS} proposals: {stored:.0f} bytes a mask, {len(files)} files")
        sampler = Sampler(folder / "peaks", folder / "proposals", PARAMETERS)
        ids = [f"{number}" for number in range(IMAGES)]
        drawn = ordered_map(sampler, ["0", *ids], runtime.workers())
        next(drawn)  # the processes have started and the stores are open
        start = time.perf_counter()
        peaks = sum(len(draws.label) for draws in drawn)
        seconds = time.perf_counter() - start
        print(f"{seconds:.1f} s with {runtime.workers()} workers, {peaks} peaks with candidates")


def write_stores(folder: Path) -> None:
    """Write peaks and proposals of `IMAGES` images."""
    rng = np.random.default_rng(0)
    pool = masks.encode(blobs(POOL, rng))
    with (
        ProposalWriter(folder / "proposals", "random", "none", {}) as proposals,
        PeakWriter(folder / "peaks", ("object",), {}) as peaks,
    ):
        for number in range(IMAGES):
            chosen = [pool[k] for k in rng.choice(POOL, PROPOSALS, replace=False)]
            score = np.sort(rng.random(PROPOSALS, np.float32))[::-1]
            proposals.add(f"{number}", HEIGHT, WIDTH, Proposals(chosen, score))
            found = Peaks(
                label=np.zeros(PEAKS, np.int16),
                y=rng.integers(0, HEIGHT, PEAKS).astype(np.int32),
                x=rng.integers(0, WIDTH, PEAKS).astype(np.int32),
                value=np.ones(PEAKS, np.float32),
                response=np.ones((PEAKS, 1, 1), np.float32),
            )
            peaks.add(f"{number}", HEIGHT, WIDTH, found)


if __name__ == "__main__":
    main()
