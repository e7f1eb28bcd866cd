"""`wise peaks`: describes stores of peaks, and draws those of an image."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts.peaks import PeakStore
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

PEAKS = Shelf().peaks.path.parent


def peaks(
    store: Annotated[Path, typer.Argument(help="A store, or a folder of stores.")] = PEAKS,
    image: Image = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Describe stores of peaks, or draw those of one image.

    With an image id, it draws the peaks and their response maps.

    Example: wise peaks data/peaks/train 2007_000032
    """
    stores = open_stores(store, PeakStore, "peaks")
    if image is None:
        show_contents({name: contents.summarize_peaks(s) for name, s in stores.items()}, as_json)
        return
    chosen = find_image(stores, image)
    sheet = sheets.peak_sheet(
        photograph(chosen, image), chosen.peaks(image), chosen.attributes["classes"]
    )
    show_picture(sheet, out, f"{image}-peaks", as_json)
