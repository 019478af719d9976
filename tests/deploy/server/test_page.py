"""The server's page in a real browser: it asks for the token, and shows what the server answers."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from fieldguide.commands.serve import missing_packages
from tests.deploy.server.conftest import Gate, jpeg, predictor_of, served
from tests.report.test_browser import WIDTHS, browser  # noqa: F401  a fixture

if missing := missing_packages():
    pytest.skip(f"needs {', '.join(missing)}: pip install 'fieldguide[serve]'", allow_module_level=True)


AXE = os.environ.get("FIELDGUIDE_TEST_AXE")
TIMEOUT_MS = 20_000
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    with served(predictor_of(Gate()), token=b"secret-secret-secret") as running:
        yield running


@pytest.mark.parametrize("width", WIDTHS)
def test_photos_are_sent_with_the_token_and_their_answers_shown(server, browser, width, tmp_path):  # noqa: F811
    files = [tmp_path / name for name in ("a.jpg", "b,c.jpg", "no photo.jpg")]
    for number, file in enumerate(files):
        file.write_bytes(jpeg(number) if number < 2 else b"nonsense")
    context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
    page, complaints, requests = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: requests.append(asked.url))
    own = f"http://127.0.0.1:{server.port}/"
    page.goto(own)
    status = page.locator("#status")
    expect(status).to_have_text("This server needs its token.", timeout=TIMEOUT_MS)
    assert all("401" in complaint for complaint in complaints), complaints  # Chromium's own words
    complaints.clear()
    page.get_by_label("Token of this server").fill("secret-secret-secret")
    page.get_by_role("button", name="Use it").press("Enter")
    expect(status).to_have_text("Ready.", timeout=TIMEOUT_MS)
    expect(page.locator("#about")).to_have_text("3 classes: red, green, blue")
    page.set_input_files("#files", str(files[0]))
    expect(page.locator("#answers img")).to_be_visible(timeout=TIMEOUT_MS)
    assert page.locator("#answers li").count() == 3
    page.set_input_files("#files", list(map(str, files[1:])))
    expect(status).to_have_text("3 photos done.", timeout=TIMEOUT_MS)
    expect(page.locator("#answers tr").nth(3)).to_contain_text("failed: is not an image that can be read")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert rows[0] == "image,label,confidence,status" and rows[2].startswith('"b,c.jpg",')
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if AXE:
        page.evaluate(Path(AXE).read_text())  # its script tag would be against the page's policy
        found = page.evaluate("axe.run().then((found) => found.violations.map((each) => [each.impact, each.id]))")
        assert not [each for each in found if each[0] in ("serious", "critical")], found
    if shots := os.environ.get("FIELDGUIDE_SHOTS"):
        page.screenshot(path=f"{shots}/{width}.png", full_page=True)
    assert not complaints and all(url.startswith((own, "blob:", "data:")) for url in requests), (complaints, requests)
    context.close()
