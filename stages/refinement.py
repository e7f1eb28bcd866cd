"""Replace the predicted masks by the proposals most similar to them."""

from operator import attrgetter

from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.split import Split
from pipeline.parallel import map_photographs
from pipeline.refinement import RefinementParameters, Refiner
from stages import SHELF, read_parameters, run, scratch, shelve


def main() -> None:
    """Read data/predictions and data/proposals, write data/refinement."""
    parameters = read_parameters(RefinementParameters, "refinement")
    with scratch("refinement") as unfinished:
        for name in ("val", "train"):
            split = Split.read(SHELF / "dataset" / f"{name}.json")
            place = unfinished / name
            refiner = Refiner(SHELF / "predictions" / name, SHELF / "proposals" / name, parameters)
            with InstanceWriter(
                place, "refinement", split.classes, parameters.model_dump()
            ) as store:
                remaining = split.photographs[store.finished :]
                what = f"refinement, {name}"
                refined = map_photographs(refiner, attrgetter("id"), remaining, what)
                for photograph, instances in refined:
                    store.add(photograph.id, photograph.height, photograph.width, instances)
            shelve(place, SHELF / "refinement" / name)
            print(f"refinement: {store.rows} instances in {len(split.photographs)} {name} images")


if __name__ == "__main__":
    run(main)
