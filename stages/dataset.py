"""Index the photographs of both splits, with their tags; set their true masks apart."""

import sys
from pathlib import Path

from pipeline import dataset
from pipeline.dataset import DatasetParameters
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read or draw the photographs, write data/dataset."""
    parameters = read_parameters(DatasetParameters, "dataset")
    place = SHELF / "dataset"
    with scratch("dataset") as work:
        drawn = work / "scenes"
        drawn.mkdir(exist_ok=True)
        if parameters.kind == "scenes":
            folder = dataset.draw_scenes(parameters, drawn)
            root = place / folder.relative_to(work)
        else:
            folder = root = Path(parameters.path)
        splits = dataset.read_splits(parameters, folder, work)
        truths = dataset.read_truths(parameters, folder, splits)
        for name in splits:
            # Scenes move to the shelf when all is well.
            splits[name].model_copy(update={"root": str(root)}).write(work / f"{name}.json")
            truths[name].write(work / "truth" / f"{name}.json")
        for part in ("train.json", "val.json", "truth", "scenes"):
            shelve(work / part, place / part)
    for concern in dataset.concerns(splits):
        print(f"dataset: {concern}", file=sys.stderr)
    counts = (
        f"{len(splits[name].photographs)} images of {name} ({len(truths[name].images)} with masks)"
        for name in splits
    )
    print(f"dataset: {', '.join(counts)}, {len(splits['train'].classes)} classes")


if __name__ == "__main__":
    run(main)
