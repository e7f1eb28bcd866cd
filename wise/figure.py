"""`wise figure`: a few photographs with the results of each stage."""

import contextlib
import difflib
from collections.abc import Sequence
from typing import Annotated

import typer

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.split import Photograph
from pipeline.classifier.peaks import PeaksParameters, TaggedPhotograph, peaks_of
from pipeline.common.errors import InputError
from pipeline.common.progress import track
from pipeline.drawing import figure as drawing
from pipeline.drawing.figure import Row
from pipeline.drawing.sheets import confident
from pipeline.pseudo_masks.sampler import SamplerParameters, draw, image_generator
from stages.common.parameters import read_parameters
from stages.common.shelf import Shelf
from wise.project import root
from wise.stores import Json, Out, show_picture

ROWS = 6
MAX_PREDICTIONS = 6  # per picture, because more would hide each other


def figure(
    images: Annotated[
        list[str] | None, typer.Argument(help="Ids of evaluation images; default: six of them.")
    ] = None,
    score: Annotated[
        float,
        typer.Option(min=0, max=1, help="Minimum score, as a fraction of the image's highest."),
    ] = 0.5,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Draw a few photographs with the results of each stage.

    Each row shows an evaluation image: the peaks of its tags and their response, the proposals
    that the sampler draws, the best predictions, the refined ones, and the true masks. The
    default output is data/figure.png, which git ignores.

    Example: wise figure
    """
    with contextlib.chdir(root()):
        evaluated = Evaluated(Shelf())
        chosen = evaluated.find(images) if images else evaluated.choose()
        photographs = track(chosen, len(chosen), "figure")
        rows = [evaluated.row(photograph, score) for photograph in photographs]
    sheet = drawing.figure(rows, evaluated.split.classes)
    show_picture(sheet, out or Shelf(root()).data / "figure.png", "figure", as_json)


class Evaluated:
    """The opened outputs of the stages for the evaluation images."""

    def __init__(self, shelf: Shelf) -> None:
        self.split = shelf.splits["val"].open()
        self._truth = {image.id: image for image in shelf.truth["val"].open().images}
        self._proposals = shelf.proposals["val"].open()
        self._predicted = shelf.calibrated("predictions", "val")
        self._refined = shelf.calibrated("refinement", "val")
        self._classifier = shelf.classifier
        self._peaks = read_parameters(PeaksParameters, "peaks")
        self._sampler = read_parameters(SamplerParameters, "sampler")

    def choose(self) -> list[Photograph]:
        """Choose photographs, if possible from those with true masks."""
        photographs = self.split.photographs
        with_truth = [photograph for photograph in photographs if photograph.id in self._truth]
        return self.find(drawing.choose(with_truth or photographs, self.split.classes, ROWS))

    def find(self, image_ids: Sequence[str]) -> list[Photograph]:
        """Find photographs by their ids, or raise InputError."""
        photographs = {photograph.id: photograph for photograph in self.split.photographs}
        for image_id in image_ids:
            if image_id not in photographs:
                near = difflib.get_close_matches(image_id, photographs) or list(photographs)[:3]
                raise InputError(
                    f"no evaluation image {image_id}; available: {', '.join(near)}, ..."
                )
        return [photographs[image_id] for image_id in image_ids]

    def row(self, photograph: Photograph, min_score: float) -> Row:
        """Collect the results for a photograph; compute its peaks and pseudo masks."""
        tagged = TaggedPhotograph(self.split.path(photograph), self.split.labels(photograph))
        (peaks,) = peaks_of(self._classifier, self._peaks, [tagged])
        proposals = self._proposals.proposals(photograph.id)
        generator = image_generator(self._sampler.seed, photograph.id)
        draws = draw(peaks, proposals, self._sampler, generator)
        true = self._truth.get(photograph.id)
        return Row(
            image_id=photograph.id,
            pixels=self.split.image(photograph),
            peaks=peaks,
            pseudo_masks=draws.instances(proposals, epoch=0),
            predicted=_confident(self._predicted.instances(photograph.id), min_score),
            refined=_confident(self._refined.instances(photograph.id), min_score),
            true=true.as_instances() if true else None,
        )


def _confident(instances: Instances, min_score: float) -> Instances:
    return confident(instances, min_score * instances.score.max(initial=0.0), MAX_PREDICTIONS)
