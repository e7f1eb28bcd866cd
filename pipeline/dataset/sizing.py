"""Settings that fit a dataset: input by the size of its photographs, epochs by their number."""

import contextlib
import math
import statistics
from collections.abc import Sequence
from typing import Any

from pipeline.common.errors import InputError
from pipeline.common.images import open_image
from pipeline.dataset.listing import Listing, inside

# Visits to images in a training that was enough for the embedded scenes and for the animals of
# VOC: 240 x 12 and 1,464 x 5 of the classifier, 240 x 8 and 1,464 x 3 of the detector.
PRM_VISITS, MASK_RCNN_VISITS = 6000, 4000
LEAST_EPOCHS, MOST_EPOCHS = 2, 30
# A multiple of the networks' coarsest stride.
STEP = 32
# Headers that are read to know the size of the photographs.
MOST_OPENED = 1000


def fitting(images: int, sizes: Sequence[tuple[int, int]], batch: int) -> dict[str, Any]:
    """Changes to the default parameters.

    Parameters
    ----------
    images : number of photographs that are trained on.
    sizes : their two sides, in pixels, of all or some of them.
    batch : photographs a step of the detector's training.

    Returns
    -------
    of every stage the keys that change.
    """
    short = statistics.median(min(size) for size in sizes)
    long = statistics.median(max(size) for size in sizes)
    min_side = _in_steps(short, 128, 256)
    max_side = min(_in_steps(min_side * long / short, min_side, 2 * min_side), 448)
    epochs = _epochs(MASK_RCNN_VISITS, images)
    steps = epochs * images // batch
    return {
        "prm": {
            "image_size": _in_steps((short + long) / 2, 160, 352),
            "schedule": {"epochs": _epochs(PRM_VISITS, images)},
        },
        "sampler": {"draws_per_peak": epochs},
        "mask_rcnn": {
            "architecture": {"min_size": min_side, "max_size": max_side},
            "schedule": {"epochs": epochs, "warmup_steps": min(200, steps // 10)},
        },
    }


def _epochs(visits: int, images: int) -> int:
    return min(max(round(visits / images), LEAST_EPOCHS), MOST_EPOCHS)


def _in_steps(side: float, least: int, most: int) -> int:
    return min(max(round(side / STEP) * STEP, least), most)


def sizes(listing: Listing) -> list[tuple[int, int]]:
    """The two sides, in pixels, of the images of a list, or of some spread over a long one.

    Raises
    ------
    InputError
        If none of them can be read.
    """
    step = math.ceil(len(listing.images) / MOST_OPENED)
    found = []
    for image in listing.images[::step]:
        # Which cannot be read is for `wise check` to say.
        with (
            contextlib.suppress(InputError),
            open_image(inside(listing.root, image.file)) as opened,
        ):
            found.append(opened.size)
    if not found:
        raise InputError(f"{listing.root}: none of the images that the tags name can be read")
    return found
