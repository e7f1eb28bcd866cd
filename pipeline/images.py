"""Photographs: read whole, upright, in RGB, or refused by name."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import InputError

# Twice the largest common camera; a file that decodes to more is a mistake or an attack.
MAX_PIXELS = 200_000_000


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode a photograph to RGB, upright after its EXIF orientation.

    Returns
    -------
    uint8 array of shape (height, width, 3).

    Raises
    ------
    InputError
        If the file is missing, truncated, no image, or of more than `MAX_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{path}: {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} allowed"
                )
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such image") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image that can be read") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: broken image ({error})") from None


def warp(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize an image (h, w, 3) to (side, side, 3), whatever its proportions."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
