"""The offline page in a real browser: it answers as `predict`, by mouse and by keyboard, at both widths.

FIELDGUIDE_TEST_WEB_RUNTIME is a file of ONNX Runtime Web's package (npm pack onnxruntime-web@1.30.0), and
FIELDGUIDE_TEST_AXE one of axe-core (axe.min.js); without them these tests are skipped.
"""

import contextlib
import functools
import os
import re
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from fieldguide.deploy.export.formats import FORMATS
from fieldguide.deploy.export.graph import Graph
from fieldguide.deploy.export.members import load_members
from fieldguide.deploy.export.program import traced
from fieldguide.deploy.export.web_page import ARCHIVE, runtime_archive, write_page
from fieldguide.deploy.predictor import load_predictor
from fieldguide.errors import UsageError
from tests.conftest import write_photo
from tests.deploy.export.test_graph import PLAIN, bundle_at
from tests.report.test_browser import WIDTHS, browser  # noqa: F401  a fixture

RUNTIME, AXE = (os.environ.get(f"FIELDGUIDE_TEST_{name}") for name in ("WEB_RUNTIME", "AXE"))
pytestmark = pytest.mark.slow
TIMEOUT_MS = 120_000

if problem := FORMATS["onnx"].problem():
    pytest.skip(problem, allow_module_level=True)
needs_runtime = pytest.mark.skipif(RUNTIME is None, reason=f"FIELDGUIDE_TEST_WEB_RUNTIME: {ARCHIVE} is not given")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(page, bundle, 20 photos): turned by EXIF, with alpha, gray, in a palette, and as they are."""
    root = tmp_path_factory.mktemp("web")
    bundle = bundle_at(root / "bundle", PLAIN, temperature=3.0)
    members, about = load_members([bundle], "resized")
    FORMATS["onnx"].write(traced(Graph(members, "resized"), PLAIN.image_size_px), root, about)
    photos = _photos(root)
    expected = load_predictor(bundle, "cpu").predict_proba(photos[:1])[0]
    archive = runtime_archive(Path(RUNTIME), print)
    checks = [(photos[0], list(map(float, expected)))]
    write_page(root / "index.html", root / "model.onnx", archive, about, checks)
    (root / "split").mkdir()
    shutil.copyfile(root / "model.onnx", root / "split" / "model.onnx")
    write_page(root / "split" / "index.html", root / "split" / "model.onnx", archive, about, checks, is_split=True)
    return root / "index.html", bundle, photos


def _photos(root):
    paths = []
    for number in range(20):
        write_photo(root / "plain" / f"{number}.png", number % 3 + 1, number, size=(90 + 7 * number, 70))
        image = Image.open(root / "plain" / f"{number}.png")
        kind = ("jpg", "exif", "alpha", "gray", "palette")[number % 5]
        path = root / f"{number:02d}-{kind}.{'png' if kind in ('alpha', 'palette') else 'jpg'}"
        if kind == "exif":
            exif = Image.Exif()
            exif[0x0112] = 2 + number // 5 * 2  # 2, 4, 6 and 8
            image.save(path, exif=exif)
        elif kind == "alpha":
            pixels = np.array(image.convert("RGBA"))
            pixels[..., 3] = np.random.default_rng(number).integers(0, 256, pixels.shape[:2])
            Image.fromarray(pixels).save(path)
        else:
            image.convert({"gray": "L", "palette": "P"}.get(kind, "RGB")).save(path)
        image.close()
        paths.append(path)
    return paths


@pytest.fixture(scope="module", params=WIDTHS)
def page(request, made, browser):  # noqa: F811
    """The page without a network, ready; what it complains about fails."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, offline=True, accept_downloads=True)
    opened, complaints = context.new_page(), []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    requests = []
    opened.on("request", lambda asked: requests.append(asked.url))
    opened.goto(made[0].as_uri())
    expect(opened.locator("#status")).to_have_text("Ready.", timeout=TIMEOUT_MS)
    yield opened
    assert not complaints and all(url.startswith(("file:", "blob:")) for url in requests), (complaints, requests)
    context.close()


def give(page, photos):
    count = page.evaluate("fieldguide.rows.length") + len(photos)
    page.set_input_files("#files", [str(photo) for photo in photos])
    expect(page.locator("#status")).to_have_text(re.compile(f"^{count} photos? done"), timeout=TIMEOUT_MS)


@needs_runtime
def test_probabilities_are_those_of_predict(page, made):
    _, bundle, photos = made
    if page.evaluate("fieldguide.rows.length"):
        page.locator("#clear").click()
    give(page, photos)
    found = np.array(page.evaluate("fieldguide.rows.map((row) => row.all)"))
    expected = load_predictor(bundle, "cpu").predict_proba(photos)
    assert np.ptp(expected, axis=0).max() > 0.03
    np.testing.assert_allclose(found, expected, atol=1e-4)


@needs_runtime
def test_one_photo_is_a_card_and_many_a_table_that_is_saved_by_keyboard(page, made, tmp_path):
    _, _, photos = made
    if page.evaluate("fieldguide.rows.length"):
        page.locator("#clear").click()
    give(page, photos[:1])
    expect(page.locator("#answers li")).to_have_count(3)  # of its three classes
    widths = page.evaluate("Array.from(document.querySelectorAll('.bar i'), (bar) => bar.style.width)")
    assert len(set(widths)) == 3 and all(width.endswith("%") for width in widths)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    give(page, [photos[1], tmp_path / "broken.jpg"])
    expect(page.locator("#answers tr")).to_have_count(4)
    expect(page.locator("#answers")).to_contain_text("failed: cannot be decoded by this browser")
    page.locator("#below").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("1")
    expect(page.locator("#answers td.unsure")).to_have_count(2)
    with page.expect_download() as saved:
        page.locator("#save").focus()
        page.keyboard.press("Enter")
    lines = Path(saved.value.path()).read_text().splitlines()
    assert lines[0] == "image,label,confidence,status" and lines[1].endswith(",unsure") and len(lines) == 4


@needs_runtime
def test_every_control_is_reached_by_keyboard(page, made):
    page.reload()
    expect(page.locator("#status")).to_have_text("Ready.", timeout=TIMEOUT_MS)
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["files", "camera", "below"]


@needs_runtime
@pytest.mark.skipif(AXE is None, reason="FIELDGUIDE_TEST_AXE: axe.min.js of axe-core is not given")
def test_axe_finds_nothing(page, made):
    page.add_script_tag(content=Path(AXE).read_text())
    for photos in ([], made[2][:1], made[2][1:3]):
        if photos:
            give(page, photos)
        assert [found["id"] for found in page.evaluate("axe.run()")["violations"]] == []


@contextlib.contextmanager
def on_a_server(folder):
    """A folder behind HTTP, as `python -m http.server` has it."""
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@needs_runtime
def test_a_split_page_loads_its_parts_from_its_server_and_says_so_elsewhere(made, browser):  # noqa: F811
    _, bundle, photos = made
    folder = made[0].parent / "split"
    text = (folder / "index.html").read_text()
    assert len(text) < 60_000 and "without a network" not in text
    with on_a_server(folder) as address:
        opened, requests = browser.new_page(), []
        opened.on("request", lambda asked: requests.append(asked.url))
        opened.goto(address)
        expect(opened.locator("#status")).to_have_text("Ready.", timeout=TIMEOUT_MS)
        give(opened, photos[:3])
        found = np.array(opened.evaluate("fieldguide.rows.map((row) => row.all)"))
        np.testing.assert_allclose(found, load_predictor(bundle, "cpu").predict_proba(photos[:3]), atol=1e-4)
        assert all(url.startswith((address, f"blob:{address}")) for url in requests), requests
        opened.close()
    opened = browser.new_page()
    opened.goto((folder / "index.html").as_uri())
    expect(opened.locator("#status")).to_contain_text("python -m http.server", timeout=TIMEOUT_MS)
    opened.close()


@needs_runtime
@pytest.mark.torture
@pytest.mark.parametrize("backbone", ["convnext_atto", "efficientnet_lite0", "test_vit"])
def test_networks_of_other_families_answer_in_the_page_as_in_predict(backbone, made, browser, tmp_path):  # noqa: F811
    temperature = 30.0 if backbone == "efficientnet_lite0" else 1.0  # whose random weights are sure of one class
    bundle = bundle_at(tmp_path / "bundle", PLAIN.of_size(64), temperature=temperature, backbone=backbone)
    members, about = load_members([bundle], "resized")
    FORMATS["onnx"].write(traced(Graph(members, "resized"), 64), tmp_path, about)
    photos = made[2][:5]
    expected = load_predictor(bundle, "cpu").predict_proba(photos)
    assert np.ptp(expected, axis=0).max() > 1e-3
    check = (photos[0], list(map(float, expected[0])))
    write_page(tmp_path / "index.html", tmp_path / "model.onnx", runtime_archive(Path(RUNTIME), print), about, [check])
    context = browser.new_context(offline=True)
    opened = context.new_page()
    opened.goto((tmp_path / "index.html").as_uri())
    expect(opened.locator("#status")).to_have_text("Ready.", timeout=TIMEOUT_MS)
    give(opened, photos)
    np.testing.assert_allclose(opened.evaluate("fieldguide.rows.map((row) => row.all)"), expected, atol=1e-4)
    context.close()


def test_another_package_is_refused(tmp_path):
    (tmp_path / "x.tgz").write_bytes(b"x")
    with pytest.raises(UsageError, match="npm pack onnxruntime-web"):
        runtime_archive(tmp_path / "x.tgz", print)
    with pytest.raises(UsageError, match="cannot be read"):
        runtime_archive(tmp_path / "nowhere.tgz", print)


@needs_runtime
def test_a_page_whose_answers_differ_says_so_and_takes_no_photos(made, browser, tmp_path):  # noqa: F811
    wrong = made[0].read_text().replace('"interpolation": "bicubic"', '"interpolation": "bilinear"')
    wrong = re.sub(r'"probabilities": \[[^]]*\]', '"probabilities": [0.5, 0.5, 0.0]', wrong)
    (tmp_path / "wrong.html").write_text(wrong)
    opened = browser.new_page()
    opened.goto((tmp_path / "wrong.html").as_uri())
    expect(opened.locator("#status")).to_contain_text("other answers than the trained model", timeout=TIMEOUT_MS)
    assert opened.locator("#files").is_disabled()
    opened.close()
