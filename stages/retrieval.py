"""Give every peak the proposal that fits it best: the baseline without a detector."""

from functools import partial

from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.split import Split
from pipeline.parallel import fill
from pipeline.peaks import PeaksParameters
from pipeline.retrieval import RetrievalParameters, Retriever, Shown
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/prm, data/peaks, data/proposals and data/dataset, write data/retrieval."""
    parameters = read_parameters(RetrievalParameters, "retrieval")
    weights, of_train = SHELF / "prm" / "weights.safetensors", SHELF / "peaks" / "train"
    # Those of val are found as those of train were, but of the classes that the classifier sees.
    finding = PeaksParameters.parse(PeakStore(of_train).attributes["parameters"], str(of_train))
    with scratch("retrieval") as unfinished:
        place = unfinished / "retrieval"
        for name, peaks in (("val", finding), ("train", of_train)):
            split = Split.read(SHELF / "dataset" / f"{name}.json")
            retriever = Retriever(weights, SHELF / "proposals" / name, peaks, parameters)
            photographs, settings = split.photographs, parameters.model_dump()
            with InstanceWriter(place / name, "retrieval", split.classes, settings) as store:
                fill(store, retriever, partial(Shown.of, split), photographs, f"retrieval, {name}")
            print(f"retrieval: {store.rows} instances in {len(photographs)} {name} images")
        shelve(place, SHELF / "retrieval")


if __name__ == "__main__":
    run(main)
