"""IoU of 100 predictions and 1,000 proposals of an image, read from the stores.

The refinement stage computes it on run-length encodings. It is compared with decoding and encoding
both sides, as between tools that exchange arrays, and with pycocotools alone on encodings in
memory. The last line is the time to decode the stored proposals to arrays.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.ndimage import zoom

from benchmarks.table import Line, side_by_side
from pipeline.artifacts.instances import Instances, InstanceStore, InstanceWriter
from pipeline.artifacts.proposals import Proposals, ProposalStore, ProposalWriter
from pipeline.common import masks
from pipeline.common.masks import Rle

HEIGHT, WIDTH = 375, 500
PREDICTIONS, PROPOSALS = 100, 1000
MEAN_AREA = 0.04


def lines() -> Iterator[Line]:
    """Yield milliseconds per image."""
    job = f"IoU of {PREDICTIONS} x {PROPOSALS:,} stored masks of {HEIGHT}x{WIDTH}"
    with tempfile.TemporaryDirectory() as folder:
        predictions, proposals = stores(Path(folder), np.random.default_rng(0))
        stored = predictions.instances("image").masks, proposals.proposals("image").masks
        note = f"mean area {masks.area(stored[1]).mean() / (HEIGHT * WIDTH):.1%}"
        peers = {
            "through decoded arrays": partial(through_arrays, predictions, proposals),
            "pycocotools alone, codes in memory": partial(pycocotools_alone, *stored),
        }
        for peer, theirs in peers.items():
            seconds = side_by_side(partial(from_store, predictions, proposals), theirs)
            yield Line(job, "ms", 1000 * seconds[0], peer, 1000 * seconds[1], note)
        seconds = side_by_side(partial(arrays, proposals), partial(pycocotools_arrays, proposals))
        job = f"{PROPOSALS:,} stored masks of {HEIGHT}x{WIDTH} as arrays"
        yield Line(job, "ms", 1000 * seconds[0], "pycocotools", 1000 * seconds[1], note)


def blobs(count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw smooth shapes of about `MEAN_AREA` of the image, bool (count, HEIGHT, WIDTH)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    shapes = np.empty((count, HEIGHT, WIDTH), bool)
    for shape in shapes:
        radius = np.sqrt(MEAN_AREA * HEIGHT * WIDTH / np.pi) * rng.uniform(0.4, 1.4)
        distance = np.hypot(y - rng.uniform(0, HEIGHT), x - rng.uniform(0, WIDTH))
        bumps = zoom(rng.normal(0, 0.5, (8, 10)), (HEIGHT / 8, WIDTH / 10), order=1)
        shape[:] = distance < radius * (1.1 + bumps)
    return shapes


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
    return masks.iou(predictions.instances("image").masks, proposals.proposals("image").masks)


def through_arrays(predictions: InstanceStore, proposals: ProposalStore) -> NDArray[np.float64]:
    first = masks.decode(predictions.instances("image").masks, HEIGHT, WIDTH)
    second = masks.decode(proposals.proposals("image").masks, HEIGHT, WIDTH)
    return pycocotools_alone(masks.encode(first), masks.encode(second))


def pycocotools_alone(first: list[Rle], second: list[Rle]) -> NDArray[np.float64]:
    similarities: NDArray[np.float64] = coco_mask.iou(first, second, [False] * len(second))
    return similarities


def arrays(proposals: ProposalStore) -> NDArray[np.bool_]:
    return masks.decode(proposals.proposals("image").masks, HEIGHT, WIDTH)


def pycocotools_arrays(proposals: ProposalStore) -> NDArray[np.uint8]:
    decoded: NDArray[np.uint8] = coco_mask.decode(proposals.proposals("image").masks)
    return decoded
