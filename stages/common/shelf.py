"""Every artifact in data/: its path, and the type that opens it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pipeline.artifacts.calibration import Calibration
from pipeline.artifacts.draws import DrawStore
from pipeline.artifacts.instances import InstanceStore, InstanceView
from pipeline.artifacts.peaks import PeakStore
from pipeline.artifacts.proposals import ProposalStore
from pipeline.artifacts.split import Split
from pipeline.artifacts.truth import Truth

Opened = TypeVar("Opened")

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Artifact(Generic[Opened]):
    """A file or store that a stage writes, and the type that opens it."""

    path: Path
    kind: Callable[[Path], Opened]

    def open(self) -> Opened:
        """Open it, or raise InputError."""
        return self.kind(self.path)


class Shelf:
    """The artifacts of all stages in the folder data/ of a project.

    `splits`, `truth`, `proposals`, `retrieval`, `predictions`, `refinement`, `mask_rcnn_gt` and
    `community_predictions` have an artifact for each of `SPLITS`; `peaks` and `draws` belong to the
    training images. `calibrations` has those of `predictions` and of
    `refinement`. `classifier`, `sharpmask`, `community` and `detector` are paths of weights files,
    which their networks load.
    """

    def __init__(self, project: Path = Path()) -> None:
        self.data = data = project / "data"
        self.splits = {s: Artifact(data / "dataset" / f"{s}.json", Split.read) for s in SPLITS}
        self.truth = {
            s: Artifact(data / "dataset" / "truth" / f"{s}.json", Truth.read) for s in SPLITS
        }
        self.peaks = Artifact(data / "peaks" / "train", PeakStore)
        self.proposals = {s: Artifact(data / "proposals" / s, ProposalStore) for s in SPLITS}
        self.draws = Artifact(data / "sampler" / "train", DrawStore)
        self.pseudo_masks = data / "sampler" / "pseudo_masks.json"
        self.calibrations = {
            stage: Artifact(data / "calibration" / f"{stage}.json", Calibration.read)
            for stage in ("predictions", "refinement")
        }
        self.retrieval = self._instances("retrieval")
        self.predictions = self._instances("predictions")
        self.refinement = self._instances("refinement")
        self.mask_rcnn_gt = self._instances("mask_rcnn_gt")
        self.community_predictions = self._instances("community_predictions")
        self.classifier = data / "prm" / "weights.safetensors"
        self.classifier_metrics = data / "prm" / "metrics.json"
        self.sharpmask = data / "sharpmask" / "weights.safetensors"
        self.community = data / "community" / "weights.safetensors"
        self.detector = data / "mask_rcnn" / "weights.safetensors"
        self.metrics = data / "evaluation" / "metrics.json"
        self.reliability = data / "evaluation" / "reliability.json"
        self.by_area = data / "evaluation" / "by_area.csv"
        self.by_count = data / "evaluation" / "by_count.csv"
        self.report = data / "report" / "index.html"

    def _instances(self, stage: str) -> dict[str, Artifact[InstanceStore]]:
        return {split: Artifact(self.data / stage / split, InstanceStore) for split in SPLITS}

    def calibrated(self, stage: str, split: str) -> InstanceView:
        """Open the instances of `predictions` or `refinement`, with calibrated scores."""
        of_split = {"predictions": self.predictions, "refinement": self.refinement}[stage]
        return self.calibrations[stage].open().view(of_split[split].open())

    def curves(self, stage: str) -> Path:
        """Return the folder with the curves of a training, as DVCLive writes them."""
        return self.data / stage / "curves"

    def holds_sharpmask_of(self, method: str, source: str) -> bool:
        """Whether proposals by a method and from a source use the SharpMask trained here."""
        return method == "sharpmask" and Path(source) == self.sharpmask

    def publish(self, finished: Path, *place: str) -> None:
        """Move a finished file or folder to its place in data/, and replace what was there.

        This takes two renames, so that data/ never contains a part of it. The replaced folder is
        removed together with the scratch folder.
        """
        target = self.data.joinpath(*place)
        target.parent.mkdir(parents=True, exist_ok=True)
        replaced = finished.with_name(f"{finished.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if target.is_dir():
            target.rename(replaced)
        finished.rename(target)
