"""The search page in a real browser."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.serve.samples import Endpoint

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs a Chromium and its chromedriver on PATH")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    options = Options()
    options.binary_location = BROWSER or ""
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    for flag in flags.split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: WebDriver, endpoint: Endpoint) -> WebDriver:
    browser.get(f"{endpoint.url}/")
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, "#languages input")) == 3)
    return browser


def until(browser: WebDriver, condition: Any) -> None:
    WebDriverWait(browser, 15, poll_frequency=0.05).until(lambda _: condition())


def cards(browser: WebDriver) -> list[tuple[str, str, str]]:
    """Language, title and text of the results, as they are shown, read in one go: a search replaces them all."""
    script = """
        return [...document.querySelectorAll("article")].map((card) =>
            [".badge", "h2", "p"].map((part) => card.querySelector(part)?.innerText ?? ""))"""
    return [(lang, title, text) for lang, title, text in browser.execute_script(script)]


def search(browser: WebDriver, query: str, count: int) -> None:
    box = browser.find_element(By.ID, "query")
    box.clear()
    box.send_keys(query, Keys.ENTER)
    # The page is busy from the key press on.
    until(browser, lambda: browser.find_element(By.ID, "results").get_attribute("aria-busy") == "false")
    assert len(cards(browser)) == count


def test_a_query_shows_results(page: WebDriver) -> None:
    assert page.title == "Polyray search"
    assert page.switch_to.active_element.get_attribute("id") == "query"
    assert page.find_element(By.ID, "empty").is_displayed()
    assert "5 documents in 3 languages." in page.find_element(By.TAG_NAME, "footer").text
    search(page, "A honey bee tells her sisters where food is", 5)
    assert not page.find_element(By.ID, "empty").is_displayed()
    assert page.find_element(By.ID, "status").text.startswith("5 documents in ")
    assert ("de", "Der Schwänzeltanz", "Eine Biene sagt ihren Schwestern wo Futter ist") in cards(page)
    assert sum(text.startswith("Ein Text ohne Titel") for _, _, text in cards(page)) == 1


def test_right_to_left_text(page: WebDriver) -> None:
    search(page, "زنبور عسل", 5)
    query = page.find_element(By.ID, "query")
    assert query.value_of_css_property("direction") == "rtl"
    shown = {
        card.find_element(By.CLASS_NAME, "badge").text: card.find_element(By.TAG_NAME, "p")
        for card in page.find_elements(By.TAG_NAME, "article")
    }
    assert shown["fa"].value_of_css_property("direction") == "rtl"
    assert shown["fa"].get_attribute("lang") == "fa"
    assert shown["de"].value_of_css_property("direction") == "ltr"
    title = page.find_element(By.CSS_SELECTOR, "h2[lang=fa]")
    assert (title.text, title.value_of_css_property("direction")) == ("رقص زنبور", "rtl")
    # It starts at the right edge: the end of a short line is far from the left one.
    gap = page.execute_script(
        "const range = document.createRange(); range.selectNodeContents(arguments[0]);"
        "const text = range.getBoundingClientRect(), box = arguments[0].getBoundingClientRect();"
        "return [text.left - box.left, box.right - text.right]",
        title,
    )
    assert gap[0] > 100
    assert gap[1] < 2


def test_markup_in_documents_is_shown_as_text(page: WebDriver) -> None:
    search(page, "tag friends", 5)
    assert (
        "en",
        "<script>document.title = 'owned'</script>",
        "The <b>tag</b> & its <img src=x onerror=alert(1)> friends",
    ) in cards(page)
    assert page.title == "Polyray search"
    assert not page.find_elements(By.CSS_SELECTOR, "article script, article b, article img")


def test_language_filter(page: WebDriver) -> None:
    search(page, "zebra", 5)
    chips = {chip.text: chip for chip in page.find_elements(By.CSS_SELECTOR, "#languages label")}
    assert sorted(chips) == ["de", "en", "fa"]
    chips["fa"].click()
    until(page, lambda: [lang for lang, *_ in cards(page)] == ["fa"])
    box = page.find_element(By.CSS_SELECTOR, "#languages input[value=de]")
    assert box.accessible_name == "German"
    box.send_keys(Keys.SPACE)
    until(page, lambda: sorted(lang for lang, *_ in cards(page)) == ["de", "de", "fa"])


def test_an_empty_query_is_an_error_that_goes_away(page: WebDriver) -> None:
    error = page.find_element(By.ID, "error")
    assert not error.is_displayed()
    search(page, "   ", 0)
    assert (error.text, error.get_attribute("role")) == ("query is empty", "alert")
    assert page.switch_to.active_element.get_attribute("id") == "query"
    search(page, "bee", 5)
    assert not error.is_displayed()


def test_a_lost_server_is_an_error(page: WebDriver) -> None:
    page.execute_script("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    search(page, "bee", 0)
    assert page.find_element(By.ID, "error").text == "The server does not answer. Is it still running?"


def test_a_query_in_the_address(browser: WebDriver, endpoint: Endpoint) -> None:
    browser.get(f"{endpoint.url}/?q=zebra+crossing")
    until(browser, lambda: len(cards(browser)) == 5)
    assert browser.find_element(By.ID, "query").get_attribute("value") == "zebra crossing"


def test_the_page_is_self_contained_and_silent(page: WebDriver, endpoint: Endpoint) -> None:
    search(page, "bee", 5)
    log = " ".join(
        entry["message"] for entry in page.get_log("performance") if 'Network.requestWillBeSent"' in entry["message"]
    )
    assert endpoint.url in log
    assert {part.split('"')[0] for part in log.split('"url":"http')[1:]} <= {
        f"{endpoint.url.removeprefix('http')}{path}"
        for path in ("/", "/health", "/search", "/?q=bee", "/?q=zebra+crossing", "/?q=zebra%20crossing")
    }
    console = [entry["message"] for entry in page.get_log("browser") if "/search" not in entry["message"]]
    assert console == []
    labelled = page.execute_script(
        "return [...document.querySelectorAll('input, select')].filter((e) => !e.ariaLabel).length"
    )
    assert labelled == 0
