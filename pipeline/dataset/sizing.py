"""Default parameters for a dataset: input sizes and numbers of epochs."""

import contextlib
import math
import statistics
from collections.abc import Sequence
from typing import Any

from pipeline.common.errors import InputError
from pipeline.common.files import inside
from pipeline.common.images import open_image
from pipeline.dataset.listing import Listing

# Numbers of training samples that were enough: for the classifier's heads 1,464 x 10 photographs
# of VOC's animals, for the detector 240 x 8 generated scenes and 1,464 x 3 photographs.
PRM_SAMPLES, MASK_RCNN_SAMPLES = 15000, 4000
MIN_EPOCHS, MAX_EPOCHS = 2, 30
# The largest stride of the networks; sizes are multiples of it.
STRIDE = 32
# Sizes at which peaks are found, as multiples of the classifier's input: 480 and 576 pixels for 352
# were the best for VOC's animals (docs/results/classifier.md).
PEAK_SCALES = (15 / 11, 18 / 11)
# SharpMask's pyramid for photographs with a long side of 500 pixels, as exponents of 2: objects of
# about 160 to 900 pixels fill a window of one of the scales.
LONG_SIDE, MIN_SCALE, MAX_SCALE = 500, -2.5, 0.0
# Maximum number of photographs that are opened to estimate the median size.
MAX_OPENED = 1000


def suggest_parameters(
    images: int,
    sizes: Sequence[tuple[int, int]],
    batch_size: int,
    image_size: int | None = None,
) -> dict[str, Any]:
    """Suggest changes to the default parameters for a dataset.

    Parameters
    ----------
    images : number of training photographs.
    sizes : width and height of some or all of them, in pixels.
    batch_size : batch size of the detector's training.
    image_size : side of the classifier's input, in pixels; by default it depends on the sizes.

    Returns
    -------
    The changed parameters of each stage.
    """
    short = statistics.median(min(size) for size in sizes)
    long = statistics.median(max(size) for size in sizes)
    min_size = _multiple_of_stride(short, 128, 320)
    max_size = min(_multiple_of_stride(min_size * long / short, min_size, 2 * min_size), 512)
    epochs = _epochs(MASK_RCNN_SAMPLES, images)
    steps = epochs * images // batch_size
    image_size = image_size or _multiple_of_stride((short + long) / 2, 160, 352)
    shift = round(2 * math.log2(LONG_SIDE / long)) / 2
    return {
        "prm": {
            "image_size": image_size,
            # ImageNet's features fit photographs, and training their heads takes seconds.
            "schedule": {"epochs": _epochs(PRM_SAMPLES, images), "backbone_lr_factor": 0.0},
        },
        "peaks": {"scales": [round(image_size * s / STRIDE) * STRIDE for s in PEAK_SCALES]},
        "proposals": {
            "sharpmask": {
                "min_scale": min(max(MIN_SCALE + shift, -6.0), 3.0),
                "max_scale": min(max(MAX_SCALE + shift, -6.0), 3.0),
            }
        },
        "sampler": {"draws_per_peak": epochs},
        "mask_rcnn": {
            "architecture": {
                "min_size": min_size,
                "max_size": max_size,
                # For small objects, too.
                "finest_stride": 4,
                "anchor_size": 16.0,
            },
            # As in torchvision. A step takes two thirds of the time (docs/performance.md).
            "trainable_backbone_layers": 3,
            "schedule": {"epochs": epochs, "warmup_steps": min(200, steps // 10)},
        },
    }


def _epochs(samples: int, images: int) -> int:
    return min(max(round(samples / images), MIN_EPOCHS), MAX_EPOCHS)


def _multiple_of_stride(size: float, minimum: int, maximum: int) -> int:
    return min(max(round(size / STRIDE) * STRIDE, minimum), maximum)


def image_sizes(listing: Listing) -> list[tuple[int, int]]:
    """Read the width and height, in pixels, of at most `MAX_OPENED` images of a list.

    Raises
    ------
    InputError
        If none of them can be read.
    """
    step = math.ceil(len(listing.images) / MAX_OPENED)
    found = []
    for image in listing.images[::step]:
        # `wise check` reports images that cannot be read.
        with (
            contextlib.suppress(InputError),
            open_image(inside(listing.root, image.file)) as opened,
        ):
            found.append(opened.size)
    if not found:
        raise InputError(f"{listing.root}: none of the listed images can be read")
    return found
