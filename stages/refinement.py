"""Replace the predicted masks by the proposals most similar to them."""

from operator import attrgetter

from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.split import Split
from pipeline.parallel import fill
from pipeline.refinement import RefinementParameters, Refiner
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/predictions and data/proposals, write data/refinement."""
    parameters = read_parameters(RefinementParameters, "refinement")
    with scratch("refinement") as unfinished:
        place = unfinished / "refinement"
        for name in ("val", "train"):
            split = Split.read(SHELF / "dataset" / f"{name}.json")
            refiner = Refiner(SHELF / "predictions" / name, SHELF / "proposals" / name, parameters)
            settings = parameters.model_dump()
            with InstanceWriter(place / name, "refinement", split.classes, settings) as store:
                fill(store, refiner, attrgetter("id"), split.photographs, f"refinement, {name}")
            print(f"refinement: {store.rows} instances in {len(split.photographs)} {name} images")
        shelve(place, SHELF / "refinement")


if __name__ == "__main__":
    run(main)
