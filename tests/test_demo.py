"""The demo page, in a real browser."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SCREENSHOT = os.environ.get("AIGAN_SCREENSHOT")  # a PNG file to write, as docs/images/demo.png was
FLAGS = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "hide-scrollbars",
)  # fmt: skip

pytestmark = pytest.mark.long


def obey_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def address():
    """The page, served by the real command."""
    pytest.importorskip("gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "aigan_tf", "demo", f"--port={port}"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # A script that runs in the background may ignore Ctrl-C, and so would the command.
    server = subprocess.Popen(command, cwd=ROOT, preexec_fn=obey_ctrl_c, **pipes)
    try:
        lines = iter(server.stdout.readline, "")
        found = next(filter(None, (re.search(r"http://[\w.:]+", line) for line in lines)))
        yield found[0]
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=20)
        assert len(errors.strip().splitlines()) == 1, errors
        assert server.returncode == 130
    finally:
        server.kill()


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def requested_hosts(browser):
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    urls = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    return {urllib.parse.urlsplit(url).hostname for url in urls if not url.startswith(("data:", "blob:"))}


@pytest.fixture
def page(browser, address):
    """The elements that a CSS selector finds, and a wait for a condition."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    def shown(selector):
        return browser.find_elements(By.CSS_SELECTOR, selector)

    def wait_until(condition):
        return WebDriverWait(browser, 30).until(lambda _: condition())

    def choose(selector, name):
        shown(f"{selector} input")[0].click()
        wait_until(lambda: [each for each in shown("[role=option]") if each.text.split()[-1:] == [name]])[0].click()

    browser.set_window_size(1280, 1000)
    browser.get(address)
    return shown, wait_until, choose


def answer(shown, elem_id):
    return [each.text for each in shown(f"#{elem_id} h2")]


def test_a_chosen_picture_becomes_the_chosen_class(page, browser):
    shown, wait_until, choose = page
    wait_until(lambda: answer(shown, "after") and len(shown("#samples button img")) == 10)
    shown("#samples button img")[2].click()
    wait_until(lambda: answer(shown, "before") == ["bird"])
    choose("#target", "frog")
    wait_until(lambda: answer(shown, "after") == ["frog"])
    assert re.search(r"bird \([\d.]+ %\) becomes frog .*Largest change 8/255", shown("#summary")[0].text)
    assert len(shown("#after [data-testid$=confidence-set]")) == 3
    for image in shown(".pixels img"):
        assert image.value_of_css_property("image-rendering") == "pixelated"
    for width, height in ((400, 2100), (1280, 860)):
        browser.set_window_size(width, height)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        if SCREENSHOT:
            browser.save_screenshot(SCREENSHOT.replace(".png", ".png" if width == 1280 else f"_{width}.png"))
    assert requested_hosts(browser) == {"127.0.0.1"}


def test_another_generator_brings_its_pictures_and_classes(page):
    shown, wait_until, choose = page
    wait_until(lambda: answer(shown, "after") == ["cat"])
    choose("#generator", "pretrained/mnist")
    wait_until(lambda: answer(shown, "before") == ["0"])
    choose("#target", "7")
    wait_until(lambda: answer(shown, "after") == ["7"])


def test_what_is_not_a_picture_is_answered_in_one_line(page, tmp_path):
    shown, wait_until, _ = page
    (tmp_path / "notes.png").write_text("not a picture")
    wait_until(lambda: answer(shown, "after"))
    shown("#picture input[type=file]")[0].send_keys(str(tmp_path / "notes.png"))
    wait_until(lambda: shown("#summary")[0].text.startswith("notes.png cannot be read"))
    wait_until(lambda: not answer(shown, "after"))
