"""How long the Jaccard similarities of 100 predictions and 1,000 proposals of an image take.

From the same store: as run-length codes all the way, as refinement does; with the masks
decoded and both sides encoded anew, as tools do that exchange arrays; and pycocotools alone.
Run as `python -m benchmarks.refinement`.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.ndimage import zoom

from pipeline import masks
from pipeline.artifacts.instances import Instances, InstanceStore, InstanceWriter
from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.masks import Rle

HEIGHT, WIDTH = 375, 500
PREDICTIONS, PROPOSALS = 100, 1000
MEAN_AREA = 0.04
RUNS = 9


def blobs(count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Smooth shapes of about `MEAN_AREA` of the image, (count, HEIGHT, WIDTH)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    shapes = np.empty((count, HEIGHT, WIDTH), bool)
    for shape in shapes:
        radius = np.sqrt(MEAN_AREA * HEIGHT * WIDTH / np.pi) * rng.uniform(0.4, 1.4)
        distance = np.hypot(y - rng.uniform(0, HEIGHT), x - rng.uniform(0, WIDTH))
        bumps = zoom(rng.normal(0, 0.5, (8, 10)), (HEIGHT / 8, WIDTH / 10), order=1)
        shape[:] = distance < radius * (1.1 + bumps)
    return shapes


def main() -> None:
    """Print the three times, medians of `RUNS`, and their ratios."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        predictions, proposals = stores(Path(folder), rng)
        stored = predictions.instances("image").masks, proposals.proposals("image").masks
        area = masks.area(stored[1]).mean() / (HEIGHT * WIDTH)
        print(f"{PREDICTIONS} x {PROPOSALS} masks of {HEIGHT} x {WIDTH}, mean area {area:.1%}")
        ours = timed("run-length codes from the store", from_store, predictions, proposals)
        dense = timed("decoded, encoded anew", through_arrays, predictions, proposals)
        timed("pycocotools alone, codes in memory", pycocotools_alone, *stored)
    print(f"through arrays / run-length codes: {dense / ours:.1f}")


def stores(folder: Path, rng: np.random.Generator) -> tuple[InstanceStore, ProposalStore]:
    """Write random predictions and proposals of one image."""
    scores = np.linspace(1, 0, PROPOSALS, dtype=np.float32)
    labels = np.zeros(PREDICTIONS, np.int16)
    predicted = Instances(masks.encode(blobs(PREDICTIONS, rng)), labels, scores[:PREDICTIONS])
    with InstanceWriter(folder / "predictions", "predictions", ("object",), {}) as instances:
        instances.add("image", HEIGHT, WIDTH, predicted)
    with ProposalWriter(folder / "proposals", "random", "none", {}) as proposals:
        proposed = Proposals(masks.encode(blobs(PROPOSALS, rng)), scores)
        proposals.add("image", HEIGHT, WIDTH, proposed)
    return InstanceStore(folder / "predictions"), ProposalStore(folder / "proposals")


def from_store(predictions: InstanceStore, proposals: ProposalStore) -> NDArray[np.float64]:
    return masks.jaccard(predictions.instances("image").masks, proposals.proposals("image").masks)


def through_arrays(predictions: InstanceStore, proposals: ProposalStore) -> NDArray[np.float64]:
    first = masks.decode(predictions.instances("image").masks, HEIGHT, WIDTH)
    second = masks.decode(proposals.proposals("image").masks, HEIGHT, WIDTH)
    return pycocotools_alone(masks.encode(first), masks.encode(second))


def pycocotools_alone(first: list[Rle], second: list[Rle]) -> NDArray[np.float64]:
    similarities: NDArray[np.float64] = coco_mask.iou(first, second, [False] * len(second))
    return similarities


def timed(what: str, function: Callable[..., Any], *arguments: Any) -> float:
    """Print and give the median seconds of a call, after one to warm up."""
    function(*arguments)
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        function(*arguments)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(
        f"{what}: {1000 * median:.1f} ms ({1000 * min(seconds):.1f} to {1000 * max(seconds):.1f})"
    )
    return median


if __name__ == "__main__":
    main()
