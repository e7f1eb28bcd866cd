"""Whether the least sure masks are the worst ones, and how close polygons are to masks.

`python -m benchmarks.correction [STEP]` in a project whose true masks are known; a STEP of 4 takes
every fourth photograph. The quality of a photograph is the best IoU within the class, averaged over
its masks and its true objects: 0 for a mask without an object, and for an object without a mask.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.artifacts.instances import Instances
from pipeline.artifacts.split import Photograph
from pipeline.common import masks
from pipeline.delivery.pre_annotations import PreAnnotations, sureness
from stages.common.shelf import Shelf

MIN_SCORE = 0.5  # of predictions, as for `wise predict`
Found = Callable[[Photograph], Instances]


def main(step: int) -> None:
    """Report on the predictions and on the pseudo masks of the project."""
    shelf = Shelf()
    predictions = shelf.predictions["val"].open()
    draws, proposals = shelf.draws.open(), shelf.proposals["train"].open()

    def predicted(photograph: Photograph) -> Instances:
        found = predictions.instances(photograph.id)
        return found.take(np.flatnonzero(found.score >= MIN_SCORE))

    def sampled(photograph: Photograph) -> Instances:
        drawn, proposed = draws.draws(photograph.id), proposals.proposals(photograph.id)
        return replace(drawn.instances(proposed, 0), score=drawn.agreement(proposed, 0))

    report("predictions", "val", predicted, shelf, step, tagged=False)
    report("pseudo masks", "train", sampled, shelf, step, tagged=True)


def report(what: str, name: str, found: Found, shelf: Shelf, step: int, *, tagged: bool) -> None:
    """Print the quality of the photographs that look least and most sure, and the polygons' IoU.

    Photographs without true masks, or with nothing to correct, are left out.

    Parameters
    ----------
    what : what is reported on.
    name : of the split.
    found : the masks of a photograph, with scores that say how sure they are.
    step : every how many photographs one is taken.
    tagged : whether tags without a mask count, as in `wise export`.
    """
    split = shelf.splits[name].open()
    truth = {image.id: image.as_instances() for image in shelf.truth[name].open().images}
    collected = PreAnnotations(split.classes, Path(), what)
    rows = []
    for photograph in split.photographs[::step]:
        here, true = found(photograph), truth.get(photograph.id)
        missing = len({*split.labels(photograph)} - {*here.label}) if tagged else 0
        if true is None or not (here.masks or (missing and true.masks)):
            continue
        collected.add(photograph.file, photograph.height, photograph.width, here, missing)
        rows.append((sureness(here.score, missing), quality(here, true)))
    by_score = np.array(sorted(rows))[:, 1]
    quarter = len(by_score) // 4
    print(
        f"{what}: {len(rows)} photographs, quality {by_score.mean():.3f}, least sure quarter "
        f"{by_score[:quarter].mean():.3f}, surest quarter {by_score[-quarter:].mean():.3f}; "
        f"{len(collected)} masks, median IoU of their polygons {collected.median_iou()}",
        flush=True,
    )


def quality(found: Instances, true: Instances) -> float:
    """Return the best IoU within the class, averaged over all masks and all true objects."""
    iou = masks.iou(found.masks, true.masks) * (found.label[:, None] == true.label)
    return float(np.concatenate([iou.max(axis=1, initial=0), iou.max(axis=0, initial=0)]).mean())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
