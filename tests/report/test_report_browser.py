"""Reports in a real browser: headless Chromium, if installed (on Debian: chromium and chromium-driver)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.report_tools import BUILDING, HEIGHT, TRAIN, WIDTH, make_run, make_test
from PIL import Image

from mmseg.report.page import write_report
from mmseg.visualization.panels import color_label

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-prefers-reduced-motion",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver is installed"),
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Browser:
    """An open report."""

    def __init__(self, driver, path: Path) -> None:
        self.driver = driver
        self.size(1280, 900)
        driver.get(path.as_uri())

    def size(self, width: int, height: int) -> None:
        """Emulated size of the page in CSS pixels, since a window cannot be as narrow as a phone."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def js(self, code: str, *arguments):
        """Value of an expression."""
        return self.driver.execute_script(f"return {code}", *arguments)

    def one(self, selector: str):
        """First element of a selector."""
        return self.driver.find_element("css selector", selector)

    def choose(self, select: str, text: str) -> None:
        """Choose an option by the beginning of its text."""
        from selenium.webdriver.support.ui import Select

        box = Select(self.one(f"#{select}"))
        box.select_by_visible_text(next(o.text for o in box.options if o.text.startswith(text)))

    def shown(self) -> list[str]:
        """Names of the visible frames from first to last."""
        return self.js(
            "[...document.querySelectorAll('.frame')].filter(f => f.checkVisibility())"
            ".map(f => f.querySelector('h3').textContent)"
        )


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    write_report([make_run(folder / "261122_1200_night_with_a_rather_long_name_0a1b2")], path)
    return path


@pytest.fixture
def browser(chromium, report):
    opened = Browser(chromium, report)
    yield opened
    opened.size(1280, 900)
    problems = [entry["message"] for entry in chromium.get_log("browser")]
    assert not problems


def keys():
    from selenium.webdriver.common.keys import Keys

    return Keys


def test_nothing_is_requested(browser, report):
    browser.js("Promise.all([...document.images].filter(i => i.src).map(i => i.decode())).then(() => 1)")
    events = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
    requests = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    # The browser opens its own pages first.
    urls = {r["request"]["url"] for r in requests if r["documentURL"] == report.as_uri()}
    assert [url[:80] for url in urls if not url.startswith("data:")] == [report.as_uri()[:80]]


def test_class_filter(browser):
    assert browser.shown() == [f"night_0{i}" for i in (4, 3, 2, 1, 0)]
    browser.choose("class-filter", "car")
    assert browser.shown() == ["night_03", "night_01"]
    assert browser.one("#status").text == "2 of 5 frames, worst first by the IoU of car of fusion"
    browser.choose("class-filter", "train")
    assert browser.shown() == ["night_04"]
    browser.choose("class-filter", "all")
    assert len(browser.shown()) == 5
    offered = browser.js("[...document.querySelectorAll('#class-filter option')].map(o => o.textContent)")
    assert offered == ["all classes", "road (5)", "building (5)", "sky (5)", "car (2)", "train (1)"]


def test_sorting(browser):
    browser.choose("order", "best")
    assert browser.shown() == [f"night_0{i}" for i in range(5)]
    browser.choose("score-of", "events")
    assert browser.one("#status").text.endswith("best first by the mean IoU of events")
    data = json.loads(browser.js("document.getElementById('data').textContent"))
    test = data["tests"].index("events")
    means = {frame["name"]: frame["mean"][test] for frame in data["frames"]}
    assert browser.shown() == sorted(means, key=means.get, reverse=True)
    browser.choose("order", "by name")
    assert browser.shown() == sorted(means)


def test_sliders_by_keyboard(browser):
    slider = browser.one(".frame .slide")
    card = "document.querySelector('.frame')"
    before = browser.js(f"{card}.style.getPropertyValue('--p')")
    slider.send_keys(keys().ARROW_RIGHT * 3)
    assert (before, browser.js(f"{card}.style.getPropertyValue('--p')")) == ("0.5", "0.53")
    clip = browser.js(f"getComputedStyle({card}.querySelector('.over')).clipPath")
    assert clip == "inset(0px 47% 0px 0px)"
    browser.one("#all").send_keys(keys().END)
    assert set(browser.js("[...document.querySelectorAll('.slide')].map(s => s.value)")) == {"100"}
    browser.choose("mode", "blending")
    browser.one("#all").send_keys(keys().HOME)
    assert browser.js(f"getComputedStyle({card}.querySelector('.over')).opacity") == "0"


def test_pictures_of_a_frame_are_chosen_by_keyboard(browser):
    checked = "document.querySelector('.frame input[type=radio]:checked').value"
    assert browser.js(checked) == "test0"
    browser.one(".frame input[type=radio]:checked").send_keys(keys().ARROW_RIGHT)
    assert browser.js(checked) == "label"
    assert browser.js(
        "document.querySelector('.stage .over').src === document.querySelector('.strip img[data-key=label]').src"
    )


def test_errors_are_drawn_where_the_prediction_is_wrong(browser):
    browser.choose("over", "errors of fusion")
    share = browser.driver.execute_async_script(
        """const done = arguments[0];
        const image = document.querySelector('.stage .over');
        const wait = () => image.src.startsWith('data:image/png') && image.dataset.key === 'errors-test0'
          && image.complete && !image.classList.contains('map') ? count() : setTimeout(wait, 20);
        const count = () => {
          const c = Object.assign(document.createElement('canvas'), {width: 64, height: 48});
          c.getContext('2d').drawImage(image, 0, 0);
          const d = c.getContext('2d').getImageData(0, 0, 64, 48).data;
          let wrong = 0, all = 0;
          for (let i = 0; i < d.length; i += 4) { all += d[i + 3] > 0; wrong += d[i + 3] > 0 && d[i + 1] < 100; }
          done([wrong, all]);
        };
        setTimeout(wait, 50);"""
    )
    assert share[1] == 46 * 64
    assert 0.15 < share[0] / share[1] < 0.25


def test_confusion_by_keyboard(browser):
    assert browser.js("document.querySelectorAll('table.heat td[tabindex=\"0\"]').length") == 3
    browser.one("table.heat td[data-n]").send_keys(keys().ARROW_RIGHT * 2)
    assert browser.one("#confusion-readout").text.startswith("road predicted as building: ")
    browser.choose("confusion-test", "image")
    assert browser.js("[...document.querySelectorAll('.matrix')].map(m => m.hidden)") == [True, False, True]


def test_curves_by_keyboard(browser):
    slider = browser.one("[data-scrub='2']")
    slider.send_keys(keys().HOME)
    assert browser.one("[data-value='2']").text == "iteration 10: 60"


def test_skip_link_comes_first(browser):
    browser.one("body").send_keys(keys().TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the content"
    browser.driver.switch_to.active_element.send_keys(keys().ENTER)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "content"


@pytest.mark.parametrize("width", [320, 480, 768, 1280])
def test_page_never_scrolls_sideways(browser, width):
    browser.size(width, 800)
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.js("document.body.scrollWidth") <= width


def test_navigation_shows_on_a_phone_that_it_goes_on(browser):
    bar = "document.querySelector('.bar')"
    assert browser.js(f"{bar}.className") == "bar"
    browser.size(320, 700)
    browser.js("new Promise(requestAnimationFrame).then(() => 1)")
    assert browser.js(f"getComputedStyle({bar}, '::after').display") == "flex"
    assert browser.js(f"getComputedStyle({bar}, '::before').display") == "none"
    browser.js(f"{bar}.querySelector('ul').scrollTo({{left: 9999, behavior: 'instant'}})")
    browser.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => 1)")
    assert browser.js(f"getComputedStyle({bar}, '::after').display") == "none"
    assert browser.js(f"getComputedStyle({bar}, '::before').display") == "flex"


def test_picture_is_saved(browser, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    behavior = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behavior)
    browser.choose("base", "label")
    browser.choose("over", "fusion output")
    browser.js("Promise.all([...document.images].filter(i => i.src).map(i => i.decode())).then(() => 1)")
    browser.one("[data-frame='0'] .save").click()
    WebDriverWait(browser.driver, 10).until(lambda _: (tmp_path / "night_04.png").is_file())
    saved = np.asarray(Image.open(tmp_path / "night_04.png").convert("RGB"))
    left, right = color_label(np.array([[BUILDING]]))[0, 0], color_label(np.array([[TRAIN]]))[0, 0]
    assert saved.shape == (HEIGHT, WIDTH, 3)
    assert (saved[24, 52] == right).all()  # the label, right of the seam
    assert (saved[:30, :32] == left).all(axis=-1).any()


def test_dark_scheme(browser):
    background = "getComputedStyle(document.body).backgroundColor"
    light = browser.js(background)
    for scheme, same in (("dark", False), ("light", True)):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        assert (browser.js(background) == light) == same


def test_print(browser):
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.one(".tools").is_displayed()
    assert not browser.one(".stage").is_displayed()
    assert browser.one(".strip img").is_displayed()
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("kind", ["runs", "bare", "unlabelled", "training"])
def test_other_reports_have_no_problems(chromium, tmp_path, kind):
    folders = {
        "runs": lambda: [make_run(tmp_path / f"{name}_run", ("fusion", "image")) for name in "ab"],
        "bare": lambda: [make_test(tmp_path / "test", panels=False)],
        "unlabelled": lambda: [make_test(tmp_path / "test", labelled=False)],
        "training": lambda: [make_run(tmp_path / "run", ())],
    }[kind]()
    write_report(folders, tmp_path / "report.html")
    browser = Browser(chromium, tmp_path / "report.html")
    browser.size(320, 800)
    assert browser.js("document.documentElement.scrollWidth") <= 320
    assert browser.js("document.documentElement.classList.contains('js')")
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
