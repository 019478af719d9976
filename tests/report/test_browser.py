"""Pages in a real browser, with the network switched off.

Without a browser they are skipped; with FIELDGUIDE_REQUIRE_BROWSER=1, as in CI, they fail.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from fieldguide.commands.compare import compare
from fieldguide.report.write import report
from tests.report.made_up import made_up_run, predictions, write_result

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((found for found in map(shutil.which, BROWSERS) if found), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
WIDTHS = (400, 1_400)
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "'); alert(3); ('")
MISSING = f"no browser ({', '.join(BROWSERS)}); to run all tests of pages: apt-get install chromium"

if CHROMIUM is None and os.environ.get("FIELDGUIDE_REQUIRE_BROWSER") != "1":
    pytest.skip(MISSING, allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.fail(MISSING)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes = tuple(f"class number {number}" for number in range(100))
    return report(made_up_run(tmp_path_factory.mktemp("runs") / "hundred", classes).path)


class Opened:
    """A page, and what it complained about."""

    def __init__(self, browser: Browser, path: Path, width: int = 1_400, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, accept_downloads=True
        )
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def asked_the_network(self) -> list[str]:
        return [url for url in self.requests if not url.startswith(("file:", "data:"))]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_without_a_complaint_shows_all_pictures_and_fits_the_width(
    browser: Browser, hundred: Path, width: int, scheme: str
):
    with Opened(browser, hundred, width, scheme) as opened:
        pictures = opened.page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
        assert len(pictures) > 20 and all(pictures)
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width
        assert opened.complaints == [] and opened.asked_the_network() == []


def test_dark_is_dark_and_paper_is_white(browser: Browser, hundred: Path):
    background = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    with Opened(browser, hundred, scheme="dark") as opened:
        assert max(opened.page.evaluate(background)) < 60
        opened.page.emulate_media(media="print")
        assert min(opened.page.evaluate(background)) == 255


def test_the_table_of_classes_sorts_by_numbers_and_by_names(browser: Browser, hundred: Path):
    column = "[...document.querySelectorAll('#class-table tbody tr')].map(row => row.cells[{}].textContent)"
    with Opened(browser, hundred) as opened:
        opened.page.get_by_role("button", name="recall").click()
        shares = [float(text.rstrip(" %")) for text in opened.page.evaluate(column.format(1))]
        assert shares == sorted(shares, reverse=True) and len(set(shares)) > 1
        opened.page.get_by_role("button", name="recall").click()
        assert [float(text.rstrip(" %")) for text in opened.page.evaluate(column.format(1))] == sorted(shares)
        opened.page.get_by_role("button", name="class", exact=True).click()
        assert opened.page.evaluate(column.format(0)) == [f"class number {number}" for number in range(100)]
        assert opened.page.locator("#class-table th[aria-sort]").count() == 1


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_a_cell_of_the_matrix_is_read_out(browser: Browser, hundred: Path, width: int):
    with Opened(browser, hundred, width) as opened:
        cell = opened.page.locator(".matrix .mistake").first
        cell.scroll_into_view_if_needed()
        cell.hover(force=True)
        assert " predicted as class number " in opened.page.locator("#readout").inner_text()
        assert opened.page.locator(".matrix .lit").count() == 2


def test_labels_beside_the_matrix_are_legible(browser: Browser, hundred: Path):
    with Opened(browser, hundred, 400) as opened:
        size = "text => parseFloat(getComputedStyle(text).fontSize)"
        sizes = opened.page.evaluate(f"[...document.querySelectorAll('.matrix .rows text')].map({size})")
        assert len(sizes) == 100 and min(sizes) >= 9


def test_the_csv_of_label_errors_comes_out_of_the_page_as_it_is_in_the_run(browser: Browser, hundred: Path):
    with Opened(browser, hundred) as opened:
        with opened.page.expect_download() as download:
            opened.page.get_by_role("link", name="label_errors.csv").click()
        assert Path(download.value.path()).read_text() == (hundred.parent / "label_errors.csv").read_text()


def test_hostile_names_do_not_run(browser: Browser, tmp_path: Path):
    run = made_up_run(tmp_path / "run", HOSTILE, name="<svg onload=alert(4)>{}.jpg")
    write_result(run, predictions(HOSTILE), remarks=["<img src=x onerror=alert(5)>"])
    with Opened(browser, report(run.path)) as opened:
        opened.page.locator(".matrix .right").first.hover(force=True)
        assert HOSTILE[0] in opened.page.locator("#readout").inner_text()
        assert opened.complaints == [] and opened.asked_the_network() == []


def test_it_prints(browser: Browser, hundred: Path):
    with Opened(browser, hundred) as opened:
        assert opened.page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_methods_opens_and_sorts(browser: Browser, tmp_path: Path, width: int):
    runs = [made_up_run(tmp_path / name, seed=seed).path for seed, name in enumerate("abc")]
    compare(runs, html_file=tmp_path / "table.html", quiet=True)
    with Opened(browser, tmp_path / "table.html", width) as opened:
        opened.page.get_by_role("button", name="method").click()
        opened.page.get_by_role("button", name="method").click()
        assert opened.page.locator("#methods-table tbody td").first.inner_text() == "c"
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width
        assert opened.complaints == []
