"""`wise predictions`: describes stores of instances, and draws those of an image."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts.instances import InstanceStore
from pipeline.drawing import sheets
from stages.common.shelf import Shelf
from wise import contents
from wise.stores import (
    Image,
    Json,
    Out,
    find_image,
    open_stores,
    photograph,
    show_contents,
    show_picture,
)

PREDICTIONS = Shelf().predictions["val"].path.parent


def predictions(
    store: Annotated[Path, typer.Argument(help="A store, or a folder of stores.")] = PREDICTIONS,
    image: Image = None,
    score: Annotated[float, typer.Option(min=0, max=1, help="Minimum score.")] = 0.5,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Describe stores of instances, or draw those of one image.

    Instances are predictions, refined predictions, those of the upper bound and of community, and
    retrieved ones.

    Example: wise predictions data/refinement/val 2007_000042 --score 0.3
    """
    stages = ("predictions", "refinement", "retrieval", "mask_rcnn_gt", "community_predictions")
    stores = open_stores(store, InstanceStore, *stages)
    if image is None:
        show_contents(
            {name: contents.summarize_instances(s) for name, s in stores.items()}, as_json
        )
        return
    chosen = find_image(stores, image)
    sheet = sheets.instance_sheet(
        photograph(chosen, image), chosen.instances(image), chosen.attributes["classes"], score
    )
    show_picture(sheet, out, f"{image}-{chosen.attributes['stage']}", as_json)
