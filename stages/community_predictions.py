"""Detect the instances of the val and train images with the network of `community`."""

from functools import partial

from pipeline.artifacts.instances import InstanceWriter
from pipeline.artifacts.split import PhotographFile
from pipeline.community.inference import (
    CommunityPredictionsParameters,
    CommunityPredictor,
)
from pipeline.execution.photographs import fill
from stages.common.parameters import read_parameters, read_value
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Read data/dataset, data/proposals and the weights, write data/community_predictions.

    Its stores are empty if `community` is off.
    """
    parameters = read_parameters(CommunityPredictionsParameters, "community_predictions")
    shelf, enabled = Shelf(), bool(read_value("community.enabled"))
    settings = {"enabled": enabled, **parameters.model_dump()}
    with scratch("community_predictions") as unfinished:
        place = unfinished / "community_predictions"
        for name in ("val", "train"):
            split = shelf.splits[name].open()
            predictor = CommunityPredictor(shelf.community, shelf.proposals[name].path, parameters)
            with InstanceWriter(
                place / name, "community_predictions", split.classes, settings
            ) as store:
                if enabled:
                    title = f"community_predictions, {name}"
                    fill(
                        store,
                        predictor,
                        partial(PhotographFile.of, split),
                        split.photographs,
                        title,
                        on_device=True,
                    )
            print(
                f"community_predictions: {store.rows} instances in {store.finished} {name} images"
            )
        check_inputs(unfinished)
        shelf.publish(place, "community_predictions")
    if not enabled:
        print("community_predictions: off; set community.enabled to train the network")


if __name__ == "__main__":
    run(main, memory="community_predictions.max_size")
