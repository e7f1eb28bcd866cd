"""Reading photographs as upright RGB images with 8 bits per channel."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.common.errors import InputError

# The largest phone cameras have this many pixels. A larger file is a mistake or an attack.
MAX_PIXELS = 200_000_000

# Pillow warns above its limit and raises an error above twice its limit.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file without decoding it.

    Raises
    ------
    InputError
        If the file is missing, is not an image, or has more than `MAX_PIXELS` pixels; also if
        it turns out to be broken when it is decoded in the body of `with`.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes that are allowed here and of metadata that is not read.
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
        raise InputError(f"{path}: more than {MAX_PIXELS:,} pixels, the most allowed") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image in a known format") from None
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: broken image, or too large for this machine's memory") from None
    except Exception as error:  # Pillow's decoders raise various errors for broken files
        raise InputError(f"{path}: broken image ({error})") from None


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode a photograph to RGB and apply its EXIF orientation.

    Images with 16 bits per channel are reduced to their upper 8 bits. Of a file with several
    pages the first is read. The alpha channel is dropped.

    Returns
    -------
    uint8 array of shape (height, width, 3).

    Raises
    ------
    InputError
        If the file is missing, is truncated, is not an image, has more than `MAX_PIXELS`
        pixels, or has 32 bits per channel.
    """
    with open_image(path) as image:
        return np.asarray(_eight_bits(ImageOps.exif_transpose(image), path).convert("RGB"))


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):  # the value of white is unknown
        raise InputError(f"{path}: 32 bits per channel; save it with 8 or 16")
    return image


def warp(image: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """Resize an image (h, w, 3) to a square, without keeping its aspect ratio.

    Returns
    -------
    uint8 array of shape (image_size, image_size, 3).
    """
    square = (image_size, image_size)
    return np.asarray(Image.fromarray(image).resize(square, Image.Resampling.BILINEAR))
