"""Which detector is used: one that comes with this software, that of a project, or a file."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.weights import read_description
from pipeline.common.errors import InputError
from pipeline.delivery.boxed import BoxedDescription, box_version, read_boxed
from pipeline.delivery.detector import Detector
from pipeline.detectors.calibration import CalibrationParameters
from pipeline.detectors.mask_rcnn.network import MaskRcnnDescription
from pipeline.detectors.predictions import PredictionsParameters, Predictor
from pipeline.detectors.refinement import RefinementParameters
from pipeline.proposals.parameters import ProposalsParameters
from stages.common.parameters import read_parameters, read_value
from stages.common.shelf import Shelf
from wise.project import is_project, root

BOX = Path(__file__).parent.parent / "weights"  # the same in a clone and where it is installed


@dataclass(frozen=True)
class Choice:
    """A detector, and the settings of refinement by proposals."""

    detector: Detector
    proposals: ProposalsParameters
    refinement: RefinementParameters


def choose(weights: str | None, min_score: float, refined: bool = False) -> Choice:
    """Choose a detector, and read its settings.

    Parameters
    ----------
    weights : name of a detector in weights/, a file, or the folder of a project. By default the
        detector of the project around the working directory, if it was trained on photographs;
        otherwise the one in weights/ with the most classes.
    min_score : minimum score of an instance.
    refined : whether its detections are to be refined: their scores have another calibration.

    Raises
    ------
    InputError
        If there is no such detector, or its file or its settings are invalid.
    """
    file, project = _place(weights)
    if project is None:
        return _boxed(file, min_score, refined)
    return _of_project(project, file, min_score, refined)


def boxed() -> list[Path]:
    """List the files of the detectors in weights/.

    Raises
    ------
    InputError
        If a weights file there is broken.
    """
    return [file for file in sorted(BOX.glob("*.safetensors")) if box_version(file)]


def _place(weights: str | None) -> tuple[Path, Path | None]:
    """Find the weights file, and the project with its settings; None if the file has them."""
    if weights is None:
        project = _own_project()
        return (Shelf(project).detector, project) if project else (_best(), None)
    named, path = BOX / f"{weights}.safetensors", Path(weights).resolve()
    if Path(weights).name == weights and named.is_file():
        return named, None
    if is_project(path):
        return Shelf(path).detector, path
    if not path.exists():
        names = ", ".join(file.stem for file in boxed()) or "none"
        raise InputError(f"{weights}: missing; detectors that come with wise: {names}")
    if path.is_dir():
        raise InputError(f"{weights}: not the folder of a project, which has dvc.yaml and stages/")
    if box_version(path):
        return path, None
    read_description(path, MaskRcnnDescription)
    try:
        return path, root()
    except InputError:
        raise InputError(
            f"{weights}: a Mask R-CNN without settings; use it inside its project, or write both "
            "into one file there (python -m wise.box detector)"
        ) from None


def _own_project() -> Path | None:
    """Find the project of the working directory, if its detector was trained on photographs."""
    try:
        project = root()
    except InputError:
        return None
    if not Shelf(project).detector.is_file():
        return None
    with contextlib.chdir(project):
        return None if read_value("scenes.train") else project


def _best() -> Path:
    files = boxed()
    if not files:
        raise InputError(f"{BOX}: no detector here; choose one by --weights")
    return max(
        files, key=lambda file: len(read_description(file, BoxedDescription).detector.classes)
    )


def _boxed(file: Path, min_score: float, refined: bool) -> Choice:
    description = read_description(file, BoxedDescription)
    proposals = description.proposals
    if proposals.method == "sharpmask":
        proposals = proposals.model_copy(update={"source": str(BOX / "sharpmask.safetensors")})
    name = file.stem if file.parent == BOX else str(file)
    detector = read_boxed(file, name, min_score, refined)
    return Choice(detector, proposals, description.refinement)


def _of_project(project: Path, file: Path, min_score: float, refined: bool) -> Choice:
    """Read the settings of a project for its own detector, or for another one."""
    shelf = Shelf(project)
    is_own = file.resolve() == shelf.detector.resolve()
    classes = read_description(file, MaskRcnnDescription).classes
    with contextlib.chdir(project):
        # Of another detector, neither the classifier nor the calibration knows the classes.
        classifier = shelf.classifier if is_own else None
        calibrated = is_own and read_parameters(CalibrationParameters, "calibration").enabled
        predictions = read_parameters(PredictionsParameters, "predictions")
        proposals = read_parameters(ProposalsParameters, "proposals")
        refinement = read_parameters(RefinementParameters, "refinement")
        trained_on = f"the tags of {read_value('dataset.train')} in {read_value('dataset.path')}"
    if proposals.method in ("sharpmask", "sam"):
        proposals = proposals.model_copy(update={"source": str(project / proposals.source)})
    scores = shelf.calibrations["refinement" if refined else "predictions"]
    detector = Detector(
        name=str(project if is_own else file),
        classes=classes,
        trained_on=trained_on if is_own else "not known",
        detect=Predictor(file, predictions, classifier).detect,
        calibration=scores.open() if calibrated else Calibration.off(classes),
        min_score=min_score,
    )
    return Choice(detector, proposals, refinement)
