"""Find the peaks of the tagged classes of each training image, and their peak response maps."""

from functools import partial

from pipeline.artifacts.peaks import PeakWriter
from pipeline.artifacts.split import Photograph
from pipeline.classifier.peaks import PeaksParameters, TaggedPhotograph, peaks_of
from pipeline.execution.photographs import fill_together
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read data/prm/weights.safetensors and data/dataset/train.json, write data/peaks/train."""
    parameters = read_parameters(PeaksParameters, "peaks")
    shelf = Shelf()
    split = shelf.splits["train"].open()
    find = partial(peaks_of, shelf.classifier, parameters)

    def tagged(photograph: Photograph) -> TaggedPhotograph:
        return TaggedPhotograph(split.path(photograph), split.labels(photograph))

    with scratch("peaks") as unfinished:
        place = unfinished / "peaks"
        with PeakWriter(place / "train", split.classes, parameters.model_dump()) as store:
            fill_together(store, find, tagged, split.photographs, "peaks")
        check_inputs(unfinished)
        shelf.publish(place, "peaks")
    print(f"peaks: {store.rows} in {len(split.photographs)} images, {store.empty} images without")


if __name__ == "__main__":
    run(main, memory="prm.image_size")
