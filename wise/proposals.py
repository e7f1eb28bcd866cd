"""`wise proposals`: describes stores of proposals, and draws those of an image."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.common.errors import InputError
from pipeline.drawing import sheets
from pipeline.drawing.canvas import Pixels
from pipeline.pseudo_masks.sampler import Sampler, SamplerParameters
from stages.common.parameters import read_parameters
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
    best: Annotated[int, typer.Option(min=1, help="Number of masks, those of highest score.")] = 8,
    peaks: Annotated[bool, typer.Option("--peaks", help="Draw what each peak samples.")] = False,
    temperature: Annotated[
        float | None,
        typer.Option(help="Replaces sampler.temperature; near 0, the highest objectness is drawn."),
    ] = None,
    agreement: Annotated[
        float | None, typer.Option(help="Replaces sampler.agreement_power.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces sampler.seed.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Describe stores of proposals, or draw those of one image.

    With an image id, it draws the proposals of highest score or, with --peaks, what the sampler
    draws at each peak with its parameters in params.yaml.

    Example: wise proposals data/proposals/train 2007_000032 --peaks
    """
    stores = open_stores(store, ProposalStore, "proposals")
    if image is None:
        if peaks:
            raise InputError("--peaks needs an image: wise proposals STORE IMAGE --peaks")
        show_contents(
            {name: contents.summarize_proposals(s) for name, s in stores.items()}, as_json
        )
        return
    chosen = find_image(stores, image)
    pixels = photograph(chosen, image)
    if peaks:
        options = {"temperature": temperature, "agreement_power": agreement, "seed": seed}
        parameters = sampler_parameters(options)
        show_picture(_draws(chosen, image, pixels, parameters), out, f"{image}-draws", as_json)
        return
    sheet = sheets.proposal_sheet(pixels, chosen.proposals(image), best)
    show_picture(sheet, out, f"{image}-proposals", as_json)


def sampler_parameters(options: dict[str, float | None]) -> SamplerParameters:
    """Read the sampler's parameters, and replace those that are given as options."""
    with contextlib.chdir(root()):
        values = read_parameters(SamplerParameters, "sampler").model_dump()
    given = {name: value for name, value in options.items() if value is not None}
    return SamplerParameters.parse({**values, **given}, "sampler")


def _draws(
    store: ProposalStore, image: str, pixels: Pixels, parameters: SamplerParameters
) -> Pixels:
    peak_store = find_image(open_stores(Shelf(root()).peaks.path.parent, PeakStore, "peaks"), image)
    draws = Sampler(peak_store.path, store.path, parameters)(image)
    classes = peak_store.attributes["classes"]
    return sheets.draw_sheet(
        pixels, peak_store.points(image), store.proposals(image), draws, classes
    )
