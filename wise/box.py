"""Write weights that come with this software, from the finished run of a project.

In the folder of the project:

python -m wise.box sharpmask                                   # weights/sharpmask.safetensors
python -m wise.box detector animals --preset voc2012-animals   # weights/animals.safetensors

In any project, of photographs of COCO, with the backbone and the size of the stage `prm`:

python -m wise.box others real-data/coco_small                 # weights/others.safetensors
"""

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.compact import write_compact
from pipeline.artifacts.weights import read_description
from pipeline.classifier.features import compute_features
from pipeline.classifier.network import PrmDescription
from pipeline.classifier.others import write_others
from pipeline.classifier.training import PrmParameters, untrained
from pipeline.dataset import coco
from pipeline.dataset.listing import Listing, index
from pipeline.delivery.boxed import BoxedDescription, write_boxed
from pipeline.detectors.calibration import CalibrationParameters
from pipeline.detectors.mask_rcnn.network import MaskRcnnDescription
from pipeline.detectors.predictions import PredictionsParameters
from pipeline.detectors.refinement import RefinementParameters
from pipeline.proposals.parameters import ProposalsParameters
from stages.common.parameters import read_parameters, read_value
from stages.common.shelf import Shelf
from wise.detector import BOX
from wise.project import commit, root
from wise.project import others as others_of

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Out = Annotated[Path, typer.Option(file_okay=False, help="Folder of the file.")]


@app.command()
def sharpmask(out: Out = BOX) -> None:
    """Write the trained SharpMask."""
    target = out / "sharpmask.safetensors"
    write_compact(Shelf(root()).sharpmask, target)
    _print_size(target)


@app.command()
def detector(
    name: Annotated[str, typer.Argument(help="Its name for `wise predict --weights NAME`.")],
    preset: Annotated[str, typer.Option(help="The preset that it was trained with.")],
    out: Out = BOX,
) -> None:
    """Write the trained detector with its classifier, its settings and its calibration."""
    shelf, target = Shelf(root()), out.resolve() / f"{name}.safetensors"
    with contextlib.chdir(root()):
        description = _description(shelf, preset)
    write_boxed(target, description, shelf.detector, shelf.classifier)
    _print_size(target)
    for fact in ("trained_on", "preset", "commit"):
        typer.echo(f"{fact}: {getattr(description, fact)}")


@app.command()
def others(
    source: Annotated[
        Path,
        typer.Argument(
            exists=True, file_okay=False, help="A folder with instances.json and images/."
        ),
    ],
    out: Out = BOX,
) -> None:
    """Write features of photographs, from which a classifier learns what shows no class."""
    target, root_of_images = out.resolve() / "others.safetensors", source.resolve() / "images"
    (listed,) = coco.read_lists(source / "instances.json", root_of_images, [""]).values()
    with contextlib.chdir(root()), TemporaryDirectory() as folder:
        parameters = read_parameters(PrmParameters, "prm")
        listing = Listing(root_of_images, tuple(listed))
        split = index(listing, tuple(listing.tags()), "others", Path(folder, "indexed"))
        network = untrained(split, parameters).eval()
        features = compute_features(network, split, Path(folder))
        write_others(target, network.description, parameters.weights, split, features)
    _print_size(target)


def _description(shelf: Shelf, preset: str) -> BoxedDescription:
    """Collect what is known of the detector of the project in the working directory."""
    of_detector = read_description(shelf.detector, MaskRcnnDescription)
    predictions = read_parameters(PredictionsParameters, "predictions")
    of_classifier = (
        read_description(shelf.classifier, PrmDescription) if predictions.presence_weight else None
    )
    off = Calibration.off(of_detector.classes)
    calibrated = read_parameters(CalibrationParameters, "calibration").enabled
    calibrations = {
        stage: scores.open() if calibrated else off for stage, scores in shelf.calibrations.items()
    }
    return BoxedDescription(
        boxed=1,
        detector=of_detector,
        classifier=of_classifier,
        predictions=predictions,
        calibration=calibrations["predictions"],
        refined_calibration=calibrations["refinement"],
        proposals=read_parameters(ProposalsParameters, "proposals"),
        refinement=read_parameters(RefinementParameters, "refinement"),
        trained_on=_trained_on(shelf),
        preset=preset,
        commit=commit(shelf.data.parent, "pipeline", "stages"),
    )


def _trained_on(shelf: Shelf) -> str:
    count = len(shelf.splits["train"].open().photographs)
    proposals = shelf.proposals["train"].open().attributes
    without = others_of(root())
    return (
        f"the tags of {count:,} photographs ({read_value('dataset.kind')}, "
        f"{read_value('dataset.train')}){f' and {without} without a class' if without else ''}, "
        f"with proposals by {proposals['method']}: {proposals['supervision']}"
    )


def _print_size(file: Path) -> None:
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    app()
