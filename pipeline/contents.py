"""What a store holds, in a few numbers: what one wants to know before using it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import masks
from pipeline.artifacts.instances import InstanceStore
from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.ragged import RaggedStore
from pipeline.masks import Rle
from pipeline.progress import track

_QUANTILES = {"5 %": 0.05, "median": 0.5, "95 %": 0.95}

Columns = Mapping[str, NDArray[Any]]


def of_proposals(store: ProposalStore) -> dict[str, Any]:
    """Count proposals; quantiles of objectness and of area (percent of the image)."""

    def columns(image_id: str) -> Columns:
        proposals = store.proposals(image_id)
        area = _area(proposals.masks, store.size(image_id))
        return {"score": proposals.score, "area, % of the image": area}

    attributes = store.attributes
    source = {name: attributes[name] for name in ("method", "supervision")}
    return {**_contents(store, "proposals", columns), **source}


def of_peaks(store: PeakStore) -> dict[str, Any]:
    """Count peaks; quantiles of their height (a logit)."""
    contents = _contents(store, "peaks", lambda name: {"height": store.peaks(name).value})
    return {**contents, "classes": ", ".join(store.attributes["classes"])}


def of_instances(store: InstanceStore) -> dict[str, Any]:
    """Count instances; quantiles of score and of area (percent of the image)."""

    def columns(image_id: str) -> Columns:
        instances = store.instances(image_id)
        area = _area(instances.masks, store.size(image_id))
        return {"score": instances.score, "area, % of the image": area}

    contents = _contents(store, "instances", columns)
    return {**contents, "classes": ", ".join(store.attributes["classes"])}


def _contents(store: RaggedStore, rows: str, columns: Callable[[str], Columns]) -> dict[str, Any]:
    of_images = [columns(image_id) for image_id in track(store, len(store), str(store.path))]
    names = list(of_images[0]) if of_images else []
    joined = {name: np.concatenate([image[name] for image in of_images]) for name in names}
    counts = np.array([len(next(iter(image.values()))) for image in of_images], np.int64)
    size = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    total = int(counts.sum())
    return {
        "images": len(store),
        "images without": int((counts == 0).sum()),
        rows: total,
        **_quantiles(f"{rows} an image", counts),
        **{key: value for name in names for key, value in _quantiles(name, joined[name]).items()},
        f"bytes a {rows[:-1]}": round(size / total, 1) if total else None,
    }


def _quantiles(name: str, values: NDArray[Any]) -> dict[str, float | None]:
    return {
        f"{name}, {quantile}": float(f"{np.quantile(values, level):.4g}") if len(values) else None
        for quantile, level in _QUANTILES.items()
    }


def _area(rles: Iterable[Rle], size: tuple[int, int]) -> NDArray[np.float64]:
    return 100 * masks.area(list(rles)) / (size[0] * size[1])
