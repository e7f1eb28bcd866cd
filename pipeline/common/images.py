"""Photographs: read whole, upright, in RGB of 8 bits, or refused by name."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.common.errors import InputError

# As many as the largest cameras of telephones have; a file of more is a mistake or an attack.
MAX_PIXELS = 200_000_000

# Pillow warns above its own limit and refuses twice as much.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file, of which nothing is decoded yet.

    Raises
    ------
    InputError
        If the file is missing, no image, of more than `MAX_PIXELS` pixels or, when it is
        decoded in the body of `with`, broken.
    """
    try:
        with warnings.catch_warnings():
            # Of sizes that are allowed, and of metadata that nothing here reads.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(
                        f"{path}: {image.width} x {image.height} pixels; "
                        f"at most {MAX_PIXELS:,} allowed"
                    )
                yield image
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: more than the {MAX_PIXELS:,} pixels that are allowed") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image that can be read") from None
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: broken image, or too large for this machine's memory") from None
    except Exception as error:  # Pillow's decoders have no one error for broken files
        raise InputError(f"{path}: broken image ({error})") from None


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode a photograph to RGB, upright after its EXIF orientation.

    Of 16 bits the upper 8 are kept, of several pages the first, of transparent pixels the
    color that they would have.

    Returns
    -------
    uint8 array of shape (height, width, 3).

    Raises
    ------
    InputError
        If the file is missing, truncated, no image, of more than `MAX_PIXELS` pixels, or of
        32 bits a pixel and channel.
    """
    with open_image(path) as image:
        return np.asarray(_eight_bits(ImageOps.exif_transpose(image), path).convert("RGB"))


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):  # what is white is not known
        raise InputError(f"{path}: 32 bits a pixel; save it with 8 or 16")
    return image


def warp(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize an image (h, w, 3) to (side, side, 3), whatever its proportions."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
