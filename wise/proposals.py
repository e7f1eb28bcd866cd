"""`wise proposals`: what a store of proposals holds, and what it looks like."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.common.errors import InputError
from pipeline.drawing import sheets as pictures
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
    best: Annotated[int, typer.Option(min=1, help="So many masks, the best ones.")] = 8,
    peaks: Annotated[bool, typer.Option("--peaks", help="What each peak would draw.")] = False,
    temperature: Annotated[
        float | None,
        typer.Option(help="In place of sampler.temperature: towards 0 the most object-like."),
    ] = None,
    agreement: Annotated[
        float | None, typer.Option(help="In place of sampler.agreement_power.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="In place of sampler.seed.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Describe stores of proposals, or draw those of one image.

    Drawn are the best ones or, with --peaks, what each peak would draw by the sampler's parameters
    in params.yaml.

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
        options = {"temperature": temperature, "agreement_power": agreement, "seed": seed}
        parameters = sampler_parameters(options)
        show_picture(_draws(chosen, image, pixels, parameters), out, f"{image}-draws", as_json)
        return
    sheet = pictures.of_proposals(pixels, chosen.proposals(image), best)
    show_picture(sheet, out, f"{image}-proposals", as_json)


def sampler_parameters(options: dict[str, float | None]) -> SamplerParameters:
    """Read the sampler's parameters, replaced by the options that were given."""
    with contextlib.chdir(root()):
        values = read_parameters(SamplerParameters, "sampler").model_dump()
    given = {name: value for name, value in options.items() if value is not None}
    return SamplerParameters.parse({**values, **given}, "sampler")


def _draws(
    store: ProposalStore, image: str, pixels: Pixels, parameters: SamplerParameters
) -> Pixels:
    of_peaks = find_image(open_stores(Shelf(root()).peaks.path.parent, PeakStore, "peaks"), image)
    draws = Sampler(of_peaks.path, store.path, parameters)(image)
    classes = of_peaks.attributes["classes"]
    return pictures.of_draws(pixels, of_peaks.points(image), store.proposals(image), draws, classes)
