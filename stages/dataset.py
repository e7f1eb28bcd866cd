"""Index the photographs of both splits, with their tags; store true masks separately."""

import sys
from pathlib import Path

from pipeline.dataset import index
from pipeline.dataset.index import DatasetParameters
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read the photographs, their tags and masks, write data/dataset."""
    parameters = read_parameters(DatasetParameters, "dataset")
    shelf, root = Shelf(), Path(parameters.path)
    with scratch("dataset") as unfinished:
        splits = index.read_splits(parameters, root, unfinished)
        truths = index.read_truths(parameters, root, splits)
        for name in splits:
            splits[name].write(unfinished / f"{name}.json")
            truths[name].write(unfinished / "truth" / f"{name}.json")
        check_inputs(unfinished)
        for part in ("train.json", "val.json", "truth"):
            shelf.publish(unfinished / part, "dataset", part)
    for concern in index.concerns(splits):
        print(f"dataset: {concern}", file=sys.stderr)
    counts = (
        f"{len(splits[name].photographs)} images of {name} ({len(truths[name].images)} with masks)"
        for name in splits
    )
    print(f"dataset: {', '.join(counts)}, {len(splits['train'].classes)} classes")


if __name__ == "__main__":
    run(main)
