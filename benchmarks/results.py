"""Evaluate committed instances again: `python -m benchmarks.results FOLDER...`.

params.yaml says which photographs and classes they are of. Each FOLDER holds METHOD.json.gz, as
`evaluation` writes them; a method that an earlier folder has is not read again. Prints the tables
of masks, differences and boxes, and writes the numbers into metrics.json of the first folder.

Methods on training photographs are left out: their instances are not committed.

Example: wise preset voc2012-animals && python -m benchmarks.results docs/results/voc2012-animals
"""

import gzip
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.truth import Truth
from pipeline.common import files
from pipeline.common.errors import InputError
from pipeline.dataset import index
from pipeline.dataset.index import DatasetParameters
from pipeline.evaluation import tables
from pipeline.evaluation.intervals import differences
from pipeline.evaluation.protocols import EvaluationParameters, Method, pairs_of
from pipeline.evaluation.summary import evaluate, mean_names
from stages.common.parameters import read_parameters

# The split of each method, and whether its scores are confidences.
METHODS = {
    "pseudo_masks": ("train", False),
    "prm": ("val", False),
    "wise": ("val", True),
    "wise+refine": ("val", True),
    "mask_rcnn_gt": ("val", True),
}


class CommittedInstances:
    """The instances of a file in COCO's result format, by photograph."""

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.attributes: dict[str, Any] = {"classes": classes}
        self._results: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for result in json.loads(gzip.decompress(path.read_bytes())):
            self._results[result["image_id"]].append(result)

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def instances(self, image_id: str) -> Instances:
        """The instances of an image, none if the file has none of it."""
        results = self._results.get(image_id, [])
        codes = [result["segmentation"] for result in results]
        return Instances(
            [{"size": code["size"], "counts": code["counts"].encode()} for code in codes],
            np.array([result["category_id"] - 1 for result in results], np.int16),
            np.array([result["score"] for result in results], np.float32),
        )


def main(folders: Sequence[Path]) -> None:
    """Evaluate what lies in the folders, write metrics.json, print tables."""
    parameters = read_parameters(EvaluationParameters, "evaluation")
    truth = read_truth(read_parameters(DatasetParameters, "dataset"))
    metrics, estimates = {}, {}
    start = time.perf_counter()
    for name, method in committed_methods(folders, truth).items():
        metrics[name], estimates[name] = evaluate(pairs_of(method, parameters), parameters)
    print(f"{len(metrics)} methods in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    compared = differences(estimates, mean_names(parameters))
    place = folders[0] / "metrics.json"
    known = json.loads(place.read_text()) if place.is_file() else {}
    quality = {name: known[name] for name in ("proposals", "peaks") if name in known}
    files.write_json(place, {**metrics, "differences": compared, **quality}, indent=1)
    print(tables.method_tables(metrics, compared))


def read_truth(parameters: DatasetParameters) -> dict[str, Truth]:
    """Read the true masks of both splits."""
    root = Path(parameters.path)
    with TemporaryDirectory() as unfinished:
        splits = index.read_splits(parameters, root, Path(unfinished))
    return index.read_truths(parameters, root, splits)


def committed_methods(folders: Sequence[Path], truth: dict[str, Truth]) -> dict[str, Method]:
    """Open the methods that any of the folders has."""
    methods = {}
    for name, (split, confidences) in METHODS.items():
        found = [path for f in folders if (path := f / f"{name}.json.gz").is_file()]
        if found:
            instances = CommittedInstances(found[0], truth[split].classes)
            methods[name] = Method(truth[split], instances, confidences)
    return methods


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main([Path(folder) for folder in sys.argv[1:]])
    except InputError as error:
        sys.exit(f"error: {error}")
