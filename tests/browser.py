"""Headless Chromium, driven by selenium; without them, whoever imports this is skipped."""

import pathlib

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = pathlib.Path("/usr/bin/chromium"), pathlib.Path("/usr/bin/chromedriver")
if not (CHROMIUM.exists() and DRIVER.exists()):
    pytest.skip("needs chromium and chromium-driver", allow_module_level=True)


def start(profile):
    """A browser that keeps what pages log; `profile` is an empty folder."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.chrome.service.Service(str(DRIVER))
    return webdriver.Chrome(options=options, service=service)


def one(browser, selector):
    return browser.find_element("css selector", selector)


def set_width(browser, width):
    """Shows pages as wide as on a telephone or a screen; None: as wide as the window."""
    if width is None:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        return
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def colours(browser, scheme):
    """(background, text) in the light or the dark scheme."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    script = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
    found = browser.execute_script(script)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    return found
