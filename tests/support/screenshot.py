"""Take the picture of the report for the README: `make screenshot`, after `dvc repro`.

Only a report of generated scenes may be shown there: photographs of VOC and COCO have licences of
their own.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

from pipeline.common import files
from tests.support import browser as browsers

WIDTH, HEIGHT = 1280, 1500
MAX_BYTES = 250_000


def main() -> None:
    """Take the top of data/report/index.html as docs/images/report.jpg."""
    page, picture = Path("data/report/index.html"), Path("docs/images/report.jpg")
    if not page.exists():
        sys.exit(f"screenshot: {page}: missing; run `dvc repro` first")
    with tempfile.TemporaryDirectory() as profile:
        browser = browsers.start(Path(profile))
        try:
            files.write_bytes(picture, screenshot(browser, page))
        finally:
            browser.quit()
    print(f"screenshot: {picture.stat().st_size / 1e3:.0f} kB in {picture}")


def screenshot(browser: webdriver.Chrome, page: Path) -> bytes:
    """Return the top of a page as JPEG, in the best quality of at most `MAX_BYTES`."""
    browsers.set_screen(browser, WIDTH, HEIGHT)
    browser.get(page.absolute().as_uri())
    with Image.open(io.BytesIO(browser.get_screenshot_as_png())) as image:
        top = image.convert("RGB")
    encoded = (_jpeg(top, quality) for quality in range(90, 10, -10))
    return next(content for content in encoded if len(content) <= MAX_BYTES)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality, optimize=True)
    return content.getvalue()


if __name__ == "__main__":
    main()
