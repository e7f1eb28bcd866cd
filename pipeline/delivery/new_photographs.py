"""Prediction on new photographs: which files, their instances, and the names of the outputs."""

import glob
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.proposals import Proposals
from pipeline.common.errors import InputError
from pipeline.common.images import read_image
from pipeline.delivery.detector import Detector
from pipeline.detectors.refinement import RefinementParameters, refine

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class PhotographPredictor:
    """Detects the instances of photographs; a `proposer` refines them."""

    detector: Detector
    proposer: Callable[[Path], Proposals] | None = None
    refinement: RefinementParameters | None = None

    def __call__(self, photograph: Path) -> Instances | InputError:
        """Detect the instances, or return the error if the photograph cannot be read."""
        try:
            image = read_image(photograph)
        except InputError as error:
            return error
        found = self.detector.detect(image)
        if self.proposer is not None and self.refinement is not None:
            found = refine(found, self.proposer(photograph), self.refinement)
        return self.detector.kept(found)


def photographs(places: Sequence[str]) -> list[Path]:
    """List the photographs of folders (not of subfolders), files and glob patterns, once each.

    Raises
    ------
    InputError
        If a folder has no photographs, or a pattern matches none.
    """
    found: dict[Path, None] = {}
    for place in places:
        files = _files(place)
        if not files:
            raise InputError(f"{place}: no photograph here ({', '.join(SUFFIXES)})")
        found.update(dict.fromkeys(files))
    return list(found)


def _files(place: str) -> list[Path]:
    path = Path(place)
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if path.exists() or not glob.has_magic(place):
        return [path]
    return sorted(p for p in map(Path, glob.glob(place, recursive=True)) if p.is_file())


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return a unique name for each photograph: its stem, with a number if it is not unique.

    Names are compared without case, as on some file systems.
    """
    stems = Counter(path.stem.lower() for path in paths)
    names: list[str] = []
    taken = {path.stem.lower() for path in paths if stems[path.stem.lower()] == 1}
    for path in paths:
        name = path.stem
        if stems[name.lower()] > 1:
            name = next(
                candidate
                for number in range(1, len(paths) + 2)
                if (candidate := f"{path.stem}-{number}").lower() not in taken
            )
            taken.add(name.lower())
        names.append(name)
    return names
