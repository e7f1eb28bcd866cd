"""Summaries of stores: counts and quantiles."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.instances import Instances, InstanceStore
from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.proposals import Proposals, ProposalStore
from pipeline.artifacts.ragged import RaggedStore
from pipeline.common import masks
from pipeline.common.progress import track

_QUANTILES = {"5 %": 0.05, "median": 0.5, "95 %": 0.95}

Columns = Mapping[str, NDArray[Any]]


def summarize_proposals(store: ProposalStore) -> dict[str, Any]:
    """Summarize proposals: counts, and quantiles of objectness and area (percent of the image)."""
    contents = _contents(store, "proposals", lambda name: _scored(store, name, store.proposals))
    attributes = store.attributes
    return {**contents, **{name: attributes[name] for name in ("method", "supervision")}}


def summarize_peaks(store: PeakStore) -> dict[str, Any]:
    """Summarize peaks: counts, and quantiles of their height (a logit)."""
    contents = _contents(
        store, "peaks", lambda name: {"height": store.read(name, ["value"])["value"]}
    )
    return {**contents, "classes": ", ".join(store.attributes["classes"])}


def summarize_instances(store: InstanceStore) -> dict[str, Any]:
    """Summarize instances: counts, and quantiles of score and area (percent of the image)."""
    contents = _contents(store, "instances", lambda name: _scored(store, name, store.instances))
    return {**contents, "classes": ", ".join(store.attributes["classes"])}


def _contents(store: RaggedStore, rows: str, columns: Callable[[str], Columns]) -> dict[str, Any]:
    images = [columns(image_id) for image_id in track(store, len(store), str(store.path))]
    names = list(images[0]) if images else []
    concatenated = {name: np.concatenate([image[name] for image in images]) for name in names}
    counts = np.array([len(next(iter(image.values()))) for image in images], np.int64)
    size = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    total = int(counts.sum())
    return {
        "images": len(store),
        f"images without {rows}": int((counts == 0).sum()),
        rows: total,
        **_quantiles(f"{rows} per image", counts),
        **{key: v for name in names for key, v in _quantiles(name, concatenated[name]).items()},
        f"bytes per {rows[:-1]}": round(size / total, 1) if total else None,
    }


def _quantiles(name: str, values: NDArray[Any]) -> dict[str, float | None]:
    return {
        f"{name}, {quantile}": float(f"{np.quantile(values, level):.4g}") if len(values) else None
        for quantile, level in _QUANTILES.items()
    }


def _scored(
    store: RaggedStore, image_id: str, read: Callable[[str], Proposals | Instances]
) -> Columns:
    rows = read(image_id)
    height, width = store.size(image_id)
    area = 100 * masks.area(rows.masks) / (height * width)
    return {"score": rows.score, "area, % of the image": area}
