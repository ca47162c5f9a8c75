"""The MLflow interface in a real browser: the saved views show what a reviewer needs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness import tracking
from harness.configuration.schema import TrackingConfig

_PATIENCE_SECONDS = 90


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="the browser test needs selenium (the test extra installs it)"
    )
    driver, binary = (
        shutil.which("chromedriver"),
        shutil.which("chromium") or shutil.which("google-chrome"),
    )
    if driver is None or binary is None:
        pytest.skip("the browser test needs chromium and chromedriver on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=2600,6000",
    ):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def shown(browser: Any, address: str, *wanted: str) -> str:
    """The page's text once it holds all that is wanted; what it holds at last otherwise."""
    browser.get("about:blank")
    browser.get(address)
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        text = browser.execute_script("return document.body.innerText")
        if all(word in text for word in wanted):
            break
        time.sleep(0.5)
    return text


def test_the_saved_views_show_runs_scores_and_profiles(trained, server, browser):
    tracker = tracking.open(TrackingConfig(uri=server, experiment="browser"), trained.runs)
    assert tracker.log(trained, trained.trial_ids()) == 2
    addresses = {
        line.split(": ", 1)[0].removeprefix("MLflow "): line.split(": ", 1)[1]
        for line in tracker.links()
        if ": " in line
    }
    headline = (
        "selu 3 lecun s0",
        "selu 3 lecun s1",
        "accuracy/test",
        "activation",
        "normalization",
        "lecun_normal",
    )
    text = shown(browser, addresses["headline table"], *headline)
    assert [word for word in headline if word not in text] == []
    charts = (
        "selu 3 lecun s0",
        "accuracy/test",
        "init/variance",
        "end/variance",
        "init/log10_gradient",
        "curve/train_loss",
    )
    text = shown(browser, addresses["charts"], *charts)
    assert [word for word in charts if word not in text] == []
    text = shown(browser, addresses["charts by activation"], "Group: selu", "accuracy/test")
    assert "Group: selu" in text
    assert "accuracy/test" in text
