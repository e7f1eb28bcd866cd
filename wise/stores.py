"""Functions shared by the commands that show stores: opening, finding images, printing."""

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from pipeline.artifacts.ragged import RaggedStore
from pipeline.common.errors import InputError
from pipeline.drawing.canvas import Pixels, save_png
from wise.project import read_split, root

Store = TypeVar("Store", bound=RaggedStore)

Image: TypeAlias = Annotated[str | None, typer.Argument(help="Id of an image to draw.")]
Out: TypeAlias = Annotated[Path | None, typer.Option(help="Path of the PNG file.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def open_stores(path: Path, kind: Callable[[Path], Store], *stages: str) -> dict[str, Store]:
    """Open the store at a path, or all stores in the folder at this path, by name.

    A path that does not exist is relative to the project's root.

    Raises
    ------
    InputError
        If there is no store, or another stage wrote it.
    """
    place = path if path.exists() else root() / path
    folders = [place] if _is_store(place) else sorted(filter(_is_store, place.glob("*")))
    if not folders:
        raise InputError(f"{path}: no store here; create it with dvc repro {stages[0]}")
    return {folder.name: _open(folder, kind, stages) for folder in folders}


def _is_store(folder: Path) -> bool:
    return (folder / "zarr.json").is_file()


def _open(folder: Path, kind: Callable[[Path], Store], stages: tuple[str, ...]) -> Store:
    store = kind(folder)
    stage = store.attributes.get("stage")
    if stage not in stages:
        raise InputError(f"{folder}: written by the stage {stage}, not by {' or '.join(stages)}")
    return store


def find_image(stores: Mapping[str, Store], image_id: str) -> Store:
    """Return the store that contains an image, or raise InputError with the most similar ids."""
    for store in stores.values():
        if image_id in store:
            return store
    known = [name for store in stores.values() for name in store]
    near = difflib.get_close_matches(image_id, known, cutoff=0.5)
    places = " or ".join(str(store.path) for store in stores.values())
    guess = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known[:3])}, ..."
    raise InputError(f"no image {image_id} in {places}; {guess}")


def photograph(store: RaggedStore, image_id: str) -> Pixels:
    """Read the photograph of an image in a store.

    Raises
    ------
    InputError
        If no split of the project contains it, or its size has changed.
    """
    # The same id may mean different photographs in train and val.
    names = sorted(("train", "val"), key=lambda name: name != store.path.name)
    for name in names:
        split = read_split(name)
        for candidate in split.photographs:
            if candidate.id == image_id:
                return _checked(split.image(candidate), store, image_id)
    raise InputError(f"data/dataset has no photograph {image_id}; is the store of another project?")


def _checked(pixels: Pixels, store: RaggedStore, image_id: str) -> Pixels:
    if pixels.shape[:2] != store.size(image_id):
        height, width = store.size(image_id)
        raise InputError(
            f"{image_id}: {pixels.shape[1]} x {pixels.shape[0]} pixels, but {width} x {height} "
            f"in {store.path}; the photograph has changed: run dvc repro"
        )
    return pixels


def show_contents(contents: Mapping[str, Mapping[str, Any]], as_json: bool) -> None:
    """Print summaries of stores, one column per store: a table, or plain lines in a pipe."""
    if as_json:
        typer.echo(json.dumps(contents, indent=1))
        return
    keys = list(next(iter(contents.values())))
    rows = [[key, *(_cell(of_store[key]) for of_store in contents.values())] for key in keys]
    console = Console()
    if not console.is_terminal:
        for row in [["", *contents], *rows]:
            typer.echo("\t".join(row))
        return
    table = Table("", *contents)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def show_picture(pixels: Pixels, out: Path | None, name: str, as_json: bool) -> None:
    """Write a picture to `out`, by default `name`.png in the working directory."""
    path = out or Path(f"{name.replace('/', '-')}.png")
    save_png(path, pixels)
    typer.echo(json.dumps({"picture": str(path)}) if as_json else path)


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
