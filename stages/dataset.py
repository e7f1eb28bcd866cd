"""Index the photographs of both splits, with their tags; set their true masks apart."""

import sys
from pathlib import Path

from pipeline.dataset import index
from pipeline.dataset.index import DatasetParameters
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read or draw the photographs, write data/dataset."""
    parameters = read_parameters(DatasetParameters, "dataset")
    shelf = Shelf()
    with scratch("dataset") as work:
        drawn = work / "scenes"
        drawn.mkdir(exist_ok=True)
        if parameters.kind == "scenes":
            folder = index.draw_scenes(parameters, drawn)
            root = shelf.data / "dataset" / folder.relative_to(work)
        else:
            folder = root = Path(parameters.path)
        splits = index.read_splits(parameters, folder, work)
        truths = index.read_truths(parameters, folder, splits)
        for name in splits:
            # Scenes move to data/ when all is well.
            splits[name].model_copy(update={"root": str(root)}).write(work / f"{name}.json")
            truths[name].write(work / "truth" / f"{name}.json")
        for part in ("train.json", "val.json", "truth", "scenes"):
            shelf.publish(work / part, "dataset", part)
    for concern in index.concerns(splits):
        print(f"dataset: {concern}", file=sys.stderr)
    counts = (
        f"{len(splits[name].photographs)} images of {name} ({len(truths[name].images)} with masks)"
        for name in splits
    )
    print(f"dataset: {', '.join(counts)}, {len(splits['train'].classes)} classes")


if __name__ == "__main__":
    run(main)
