"""Select the best-fitting proposal for each peak: the baseline without a detector."""

from functools import partial

from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.split import PhotographFile
from pipeline.classifier.peaks import PeaksParameters
from pipeline.classifier.retrieval import RetrievalParameters, Retriever
from pipeline.execution.photographs import fill_together
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read data/prm, data/peaks, data/proposals and data/dataset, write data/retrieval."""
    parameters = read_parameters(RetrievalParameters, "retrieval")
    shelf = Shelf()
    of_train = shelf.peaks.path
    # The peaks of val are computed as those of train, for the classes that the classifier detects.
    finding = PeaksParameters.parse(shelf.peaks.open().attributes["parameters"], str(of_train))
    with scratch("retrieval") as unfinished:
        place = unfinished / "retrieval"
        for name, peaks in (("val", finding), ("train", of_train)):
            split = shelf.splits[name].open()
            retriever = Retriever(shelf.classifier, shelf.proposals[name].path, peaks, parameters)
            photographs, settings = split.photographs, parameters.model_dump()
            with InstanceWriter(place / name, "retrieval", split.classes, settings) as store:
                item, what = partial(PhotographFile.of, split), f"retrieval, {name}"
                fill_together(store, retriever, item, photographs, what)
            print(f"retrieval: {store.rows} instances in {len(photographs)} {name} images")
        check_inputs(unfinished)
        shelf.publish(place, "retrieval")


if __name__ == "__main__":
    run(main, memory="prm.image_size")
