"""Find the peaks of every training image's own classes, and their peak response maps."""

from functools import partial

from pipeline.artifacts.peaks import PeakWriter
from pipeline.artifacts.split import Photograph, Split
from pipeline.parallel import fill
from pipeline.peaks import PeaksParameters, TaggedPhotograph, peaks_of
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/prm/weights.safetensors and data/dataset/train.json, write data/peaks/train."""
    parameters = read_parameters(PeaksParameters, "peaks")
    split = Split.read(SHELF / "dataset" / "train.json")
    find = partial(peaks_of, SHELF / "prm" / "weights.safetensors", parameters)

    def tagged(photograph: Photograph) -> TaggedPhotograph:
        return TaggedPhotograph(split.path(photograph), split.labels(photograph))

    with scratch("peaks") as unfinished:
        place = unfinished / "peaks"
        with PeakWriter(place / "train", split.classes, parameters.model_dump()) as store:
            fill(store, find, tagged, split.photographs, "peaks")
        shelve(place, SHELF / "peaks")
    print(f"peaks: {store.rows} in {len(split.photographs)} images, {store.empty} images without")


if __name__ == "__main__":
    run(main)
