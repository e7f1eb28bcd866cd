"""`wise proposals`: what a store of proposals holds, and what it looks like."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.common.errors import InputError
from pipeline.drawing import sheets as pictures
from pipeline.drawing.canvas import Pixels
from pipeline.pseudo_masks.sampler import Sampler, SamplerParameters
from stages.common.shelf import Shelf
from wise import contents
from wise.project import root
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

PROPOSALS = Shelf().proposals["train"].path.parent


def proposals(
    store: Annotated[Path, typer.Argument(help="A store, or a folder of stores.")] = PROPOSALS,
    image: Image = None,
    best: Annotated[int, typer.Option(min=1, help="So many masks, the best ones.")] = 8,
    peaks: Annotated[bool, typer.Option("--peaks", help="What each peak would draw.")] = False,
    temperature: Annotated[
        float, typer.Option(help="Of the draw: 1 is Eq. 1, towards 0 the most object-like.")
    ] = 1.0,
    agreement: Annotated[
        float, typer.Option(help="Of the draw: power of how far the candidates agree; 0: Eq. 1.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Describe stores of proposals, or draw those of one image.

    Drawn are the best ones or, with --peaks, what each peak would draw.

    Example: wise proposals data/proposals/train 2007_000032 --peaks
    """
    stores = open_stores(store, ProposalStore, "proposals")
    if image is None:
        if peaks:
            raise InputError("--peaks: of which image? wise proposals STORE IMAGE --peaks")
        show_contents({name: contents.of_proposals(s) for name, s in stores.items()}, as_json)
        return
    chosen = find_image(stores, image)
    pixels = photograph(chosen, image)
    if peaks:
        values = {
            "temperature": temperature,
            "agreement_power": agreement,
            "draws_per_peak": 1,
            "seed": seed,
        }
        parameters = SamplerParameters.parse(values, "sampler")
        show_picture(_draws(chosen, image, pixels, parameters), out, f"{image}-draws", as_json)
        return
    sheet = pictures.of_proposals(pixels, chosen.proposals(image), best)
    show_picture(sheet, out, f"{image}-proposals", as_json)


def _draws(
    store: ProposalStore, image: str, pixels: Pixels, parameters: SamplerParameters
) -> Pixels:
    of_peaks = find_image(open_stores(Shelf(root()).peaks.path.parent, PeakStore, "peaks"), image)
    draws = Sampler(of_peaks.path, store.path, parameters)(image)
    classes = of_peaks.attributes["classes"]
    return pictures.of_draws(pixels, of_peaks.points(image), store.proposals(image), draws, classes)
