"""A headless Chromium, for the tests of the report and for its picture in the README."""

import shutil
from pathlib import Path

from selenium import webdriver

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
ARGUMENTS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run"),
    *("disable-quic", "disable-background-networking", "disable-component-update", "disable-sync"),
)


def start(folder: Path) -> webdriver.Chrome:
    """Start a browser whose profile is in `folder`, and that keeps its logs."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"user-data-dir={folder}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(DRIVER))


def set_screen(browser: webdriver.Chrome, width: int, height: int, *, mobile: bool = False) -> None:
    """Set the size of the screen, in CSS pixels."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
