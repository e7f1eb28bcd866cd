"""Generate scenes with masks, so that the default run needs no download."""

from functools import partial

from pipeline.common.progress import track
from pipeline.dataset.scenes.files import draw_coco, draw_voc
from pipeline.dataset.scenes.parameters import ScenesParameters
from stages.common.parameters import read_parameters
from stages.common.run import run
from stages.common.scratch import check_inputs, scratch
from stages.common.shelf import Shelf


def main() -> None:
    """Write data/scenes: a VOC year of target scenes, and the source of the proposal network."""
    parameters = read_parameters(ScenesParameters, "scenes")
    shelf = Shelf()
    lists = {"train": parameters.train, "val": parameters.val}
    with scratch("scenes") as unfinished:
        place = unfinished / "scenes"
        voc = place / "VOCdevkit" / "VOC2012"
        draw_voc(voc, lists, parameters.seed, partial(track, what="target scenes"))
        source = place / "source"
        draw_coco(source, parameters.source, parameters.seed, partial(track, what="source scenes"))
        check_inputs(unfinished)
        shelf.publish(place, "scenes")
    print(
        f"scenes: {parameters.train} + {parameters.val} target, {parameters.source} source scenes"
    )


if __name__ == "__main__":
    run(main)
