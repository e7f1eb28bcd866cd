"""Reading photographs as upright RGB images with 8 bits per channel."""

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from pipeline.common import files
from pipeline.common.errors import InputError

# Others can start programs: Pillow hands an EPS file to Ghostscript, whatever its name is.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Decoding takes up to 12 bytes a pixel (a progressive JPEG): 1 GB for the largest photograph.
MAX_MEGAPIXELS = 80
# Of a WebP it takes 16, so that the largest is smaller.
_WEBP_FRACTION = 0.75
_STRIP_PIXELS = 2**22

Result = TypeVar("Result")

# The limit is compared before anything is decoded: see `open_image`.
Image.MAX_IMAGE_PIXELS = None


def max_pixels() -> int:
    """Return the largest number of pixels: `WISE_MAX_MEGAPIXELS` million, 80 by default.

    Raises
    ------
    InputError
        If it is not an integer of at least 1.
    """
    wanted = os.environ.get("WISE_MAX_MEGAPIXELS", str(MAX_MEGAPIXELS))
    if not wanted.isdecimal() or int(wanted) < 1:
        raise InputError(f"WISE_MAX_MEGAPIXELS={wanted}: an integer of at least 1 is needed")
    return int(wanted) * 1_000_000


def check_size(where: str, width: int, height: int, fraction: float = 1) -> None:
    """Raise InputError, which begins with `where`, for more pixels than are allowed.

    These are a fraction of `max_pixels()`.
    """
    limit = int(fraction * max_pixels())
    if width * height > limit:
        raise InputError(
            f"{where}: {width} x {height} pixels; at most {limit:,} are allowed "
            "(WISE_MAX_MEGAPIXELS)"
        )


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file in one of `FORMATS` without decoding it.

    Raises
    ------
    InputError
        If the file is missing, is not such an image, or has more than `max_pixels()` pixels;
        also if it turns out to be broken when it is decoded in the body of `with`.
    """
    with files.open_file(path, "no such image") as file, _naming(path):
        image = Image.open(file, formats=FORMATS)
        fraction = _WEBP_FRACTION if image.format == "WEBP" else 1
        check_size(str(path), image.width, image.height, fraction)
        yield image


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which file the errors of Pillow are, which raises various ones for broken files."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of metadata that is not read.
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image ({', '.join(FORMATS)})") from None
    except MemoryError:
        raise InputError(f"{path}: broken image, or too large for this machine's memory") from None
    except Exception as error:
        raise InputError(f"{path}: broken image ({error})") from None


def compute_by_size(
    sizes: Sequence[tuple[int, ...]], compute: Callable[[list[int]], Iterable[Result]]
) -> list[Result]:
    """Compute a result for each image, those of equal size together.

    Parameters
    ----------
    compute : gives the results of images of one size, from their indices.

    Returns
    -------
    The results in the order of the sizes.
    """
    of_size = defaultdict(list)
    for number, size in enumerate(sizes):
        of_size[size].append(number)
    found: dict[int, Result] = {}
    for numbers in of_size.values():
        found |= zip(numbers, compute(numbers), strict=True)
    return [found[number] for number in range(len(sizes))]


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
        If the file is missing, is truncated, is not an image in one of `FORMATS`, has more than
        `max_pixels()` pixels, or has 32 bits per channel.
    """
    with open_image(path) as image:
        return as_pixels(image, str(path))


def as_pixels(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Convert an image of Pillow to RGB, as `read_image` does: uint8 (height, width, 3).

    Raises
    ------
    InputError
        If it has 32 bits per channel; the message begins with `name`.
    """
    image.load()
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    # Strip by strip: copies of the whole image would take several times its memory.
    rows = max(1, _STRIP_PIXELS // max(image.width, 1))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = np.asarray(_eight_bits(strip, name).convert("RGB"))
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    return np.ascontiguousarray(_upright(pixels, orientation))


def _upright(pixels: NDArray[np.uint8], orientation: int | None) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (1 to 8) by mirroring and turning; others are no orientation."""
    if orientation in (2, 4, 5, 7):  # mirrored
        pixels = pixels[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation or 1, 0)
    return np.rot90(pixels, turns)


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):  # the value of white is unknown
        raise InputError(f"{name}: 32 bits per channel; save it with 8 or 16")
    return image


def warp(image: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """Resize an image (h, w, 3) to a square, without keeping its aspect ratio.

    Returns
    -------
    uint8 array of shape (image_size, image_size, 3).
    """
    square = (image_size, image_size)
    return np.asarray(Image.fromarray(image).resize(square, Image.Resampling.BILINEAR))
