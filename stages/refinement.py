"""Replace the predicted masks by the proposals most similar to them."""

from pipeline import runtime
from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.split import Split
from pipeline.parallel import ordered_map
from pipeline.progress import track
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
                photographs = split.photographs[store.finished :]
                ids = [photograph.id for photograph in photographs]
                refined = ordered_map(refiner, ids, runtime.workers())
                shown = track(refined, len(ids), f"refinement, {name}")
                count = 0
                for photograph, instances in zip(photographs, shown, strict=True):
                    store.add(photograph.id, photograph.height, photograph.width, instances)
                    count += len(instances.score)
            shelve(place, SHELF / "refinement" / name)
            print(f"refinement: {count} instances in {len(ids)} {name} images")


if __name__ == "__main__":
    run(main)
