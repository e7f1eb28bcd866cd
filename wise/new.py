"""`wise new`: a working copy of the pipeline for a folder of photographs."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from pipeline.common.errors import InputError
from pipeline.dataset import index as dataset
from pipeline.dataset.index import DatasetParameters
from pipeline.dataset.sizing import image_sizes, suggest_parameters
from stages.common.yaml_files import read_yaml
from wise.preset import DEFAULT, write_preset

# The pipeline without its tests and documentation.
CODE = ["pipeline", "stages", "wise", "presets", "weights", "dvc.yaml", "pyproject.toml"]
CODE += ["requirements.txt", "Makefile", "README.md", "LICENSE", ".gitignore", ".dvcignore"]
# Not in the papers, but much better, see docs/own-data.md.
BEYOND_THE_PAPERS = {
    "sampler": {"agreement_power": 32.0, "max_overlap": 0.6},
    "predictions": {"presence_weight": 0.5, "mask_score_weight": 2.0, "max_overlap": 0.6},
    "calibration": {"enabled": True},
}
# With proposals by grouping, only masks that are close to one are replaced by it; those of a
# SharpMask are good enough to vote, and to say how sure a mask is.
GROUPED = {"min_iou": 0.75}
VOTED = {"min_iou": 0.8, "vote": True, "support_weight": 0.5}
# Trained on masks of COCO, see weights/README.md.
SHARPMASK = "weights/sharpmask.safetensors"
# `prm.image_size` of weights/others.safetensors.
SIZE_OF_OTHERS = 352
PRESET = "own"
SOURCE = Path(__file__).parent.parent


def new(
    directory: Annotated[Path, typer.Argument(help="The working copy: a new or empty folder.")],
    images: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="The folder of the photographs.")
    ],
    tags: Annotated[
        Path,
        typer.Option(
            exists=True,
            help="Their tags: a CSV, JSONL or COCO file, or a folder of instances_LIST.json.",
        ),
    ],
    masks: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="A folder with instances.json and images/: objects of any kind, to train the "
            "proposal network on, instead of the SharpMask in weights/.",
        ),
    ] = None,
    others: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="A folder of photographs that show none of the classes, which only the "
            "classifier learns from. If all photographs in the table show the same class, and "
            "without this folder, it uses features of photographs of COCO.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Use nothing that was trained on masks: proposals by grouping."
        ),
    ] = False,
) -> None:
    """Make a working copy of the pipeline for your photographs.

    The photographs are not copied.

    Example: wise new cats --images ~/photographs --tags ~/photographs/tags.csv
    """
    directory, images, tags = directory.resolve(), images.resolve(), tags.resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory}: not empty; a new folder is needed")
    if directory.is_relative_to(images):
        raise InputError(f"{directory}: inside {images}; results must not be among the photographs")
    if others and images.is_relative_to(others.resolve()):
        raise InputError(f"--others {others}: the photographs of --images are in it")
    if strict and masks:
        raise InputError("--strict uses nothing that was trained on masks: leave out --masks")
    changes = _changes(images, tags, others)
    for stage, values in (BEYOND_THE_PAPERS | _proposals(masks, strict)).items():
        changes[stage] = changes.get(stage, {}) | values
    # Under another name until it is whole: a copy that ended half-way is never taken for one.
    unfinished = directory.with_name(f".{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _write_copy(unfinished, changes)
        unfinished.rename(directory)
    except shutil.Error as error:  # it lists every file that could not be copied
        _, _, reason = error.args[0][0]
        raise InputError(f"{directory}: not copied: {reason}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    typer.echo(
        f"{directory}: ready; parameters for your photographs: presets/{PRESET}.yaml\n"
        f"next: cd {directory} && wise check && dvc repro"
    )


def _changes(images: Path, tags: Path, others: Path | None) -> dict[str, Any]:
    """Return the changes to the default preset that any proposals need, by stage and key."""
    default = read_yaml(SOURCE / "presets" / f"{DEFAULT}.yaml")
    own: dict[str, Any] = {
        "kind": "coco" if tags.is_dir() or tags.suffix == ".json" else "folder",
        "path": str(images),
        "tags": str(tags),
        "classes": [],
    }
    if tags.is_dir():
        own |= _list_names(tags)
    parameters = DatasetParameters.parse(default["dataset"] | own, "dataset")
    train = dataset.read_listings(parameters, images)["train"]
    batch_size = default["mask_rcnn"]["schedule"]["batch_size"]
    tags_of_all = frozenset[str].intersection(*(image.tags for image in train.images))
    is_alone = others is None and sorted(tags_of_all) == train.tags()
    image_size = SIZE_OF_OTHERS if is_alone else None
    changes = {
        "scenes": {"train": 0, "val": 0, "source": 0},
        "dataset": own,
        **suggest_parameters(len(train.images), image_sizes(train), batch_size, image_size),
    }
    if others:
        changes["prm"]["others"] = str(others.resolve())
    return changes


def _proposals(masks: Path | None, strict: bool) -> dict[str, Any]:
    """Return the changes for proposals by grouping, a new SharpMask, or the one in weights/."""
    if strict:
        return {"proposals": {"method": "grouping"}, "refinement": GROUPED}
    if masks:
        return {"sharpmask": {"path": str(masks.resolve())}, "refinement": VOTED}
    return {"proposals": {"source": SHARPMASK}, "refinement": VOTED}


def _list_names(folder: Path) -> dict[str, str]:
    """Find the lists for training and validation by their names."""
    names = sorted(path.stem.removeprefix("instances_") for path in folder.glob("instances_*.json"))
    found = {}
    for split in ("train", "val"):
        of_split = [name for name in names if split in name]
        if not of_split:
            raise InputError(
                f"{folder}: no instances_LIST.json with {split} in its name; "
                f"available: {', '.join(names) or 'none'}"
            )
        found[split] = of_split[0]
    return found


def _write_copy(directory: Path, changes: dict[str, Any]) -> None:
    _copy_code(directory)
    with (directory / "presets" / f"{PRESET}.yaml").open("w", encoding="utf-8") as file:
        yaml = YAML()
        yaml.default_flow_style = False
        yaml.dump(changes, file)
    write_preset(PRESET, directory)
    _initialize_repository(directory)


def _copy_code(directory: Path) -> None:
    if not (SOURCE / "dvc.yaml").is_file():
        raise InputError(f"{SOURCE}: no pipeline to copy; install wise from a clone of it")
    directory.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        if (SOURCE / name).is_dir():
            shutil.copytree(
                SOURCE / name, directory / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(SOURCE / name, directory / name)


def _initialize_repository(directory: Path) -> None:
    """Initialize git and DVC, and make the first commit, which experiments start from."""
    identity = ["-c", "user.name=wise new", "-c", "user.email=wise@localhost"]
    for command in (
        ["git", "init", "--quiet"],
        [sys.executable, "-m", "dvc", "init", "--quiet"],
        ["git", "add", "--all"],
        ["git", *identity, "commit", "--quiet", "--message", "wise new"],
    ):
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{' '.join(command)}: {' '.join(done.stderr.split())}")
