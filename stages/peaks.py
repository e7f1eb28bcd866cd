"""Find the peaks of every training image's own classes, and their peak response maps."""

from functools import partial
from pathlib import Path

from pipeline import runtime
from pipeline.artifacts.peaks import PeakWriter
from pipeline.artifacts.split import Split
from pipeline.parallel import ordered_map
from pipeline.peaks import PeaksParameters, TaggedPhotograph, peaks_of
from pipeline.progress import track
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/prm/weights.safetensors and data/dataset/train.json, write data/peaks/train."""
    parameters = read_parameters(PeaksParameters, "peaks")
    split = Split.read(SHELF / "dataset" / "train.json")
    find = partial(peaks_of, SHELF / "prm" / "weights.safetensors", parameters)
    total = without = 0
    with scratch("peaks") as unfinished:
        with PeakWriter(unfinished / "train", split.classes, parameters.model_dump()) as store:
            photographs = split.photographs[store.finished :]
            tagged = [
                TaggedPhotograph(Path(split.root) / photograph.file, split.labels(photograph))
                for photograph in photographs
            ]
            found = ordered_map(find, tagged, runtime.workers())
            shown = track(found, len(photographs), "peaks")
            for photograph, peaks in zip(photographs, shown, strict=True):
                store.add(photograph.id, photograph.height, photograph.width, peaks)
                total += len(peaks.label)
                without += not len(peaks.label)
        shelve(unfinished / "train", SHELF / "peaks" / "train")
    print(f"peaks: {total} in {len(photographs)} images, {without} images without")


if __name__ == "__main__":
    run(main)
