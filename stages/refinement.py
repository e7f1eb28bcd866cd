"""Replace the predicted masks by the proposals most similar to them."""

from operator import attrgetter

from pipeline.artifacts.instances import InstanceWriter
from pipeline.detectors.refinement import RefinementParameters, Refiner
from pipeline.execution.photographs import fill
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read data/predictions and data/proposals, write data/refinement."""
    parameters = read_parameters(RefinementParameters, "refinement")
    shelf = Shelf()
    with scratch("refinement") as unfinished:
        place = unfinished / "refinement"
        for name in ("val", "train"):
            split = shelf.splits[name].open()
            predictions, proposals = shelf.predictions[name].path, shelf.proposals[name].path
            refiner = Refiner(predictions, proposals, parameters)
            settings = parameters.model_dump()
            with InstanceWriter(place / name, "refinement", split.classes, settings) as store:
                fill(store, refiner, attrgetter("id"), split.photographs, f"refinement, {name}")
            print(f"refinement: {store.rows} instances in {len(split.photographs)} {name} images")
        check_inputs(unfinished)
        shelf.publish(place, "refinement")


if __name__ == "__main__":
    run(main)
