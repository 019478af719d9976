import base64
import json
import re

import pytest
from PIL import Image
from rich.console import Console

from fieldguide.commands.check import check, show
from fieldguide.commands.terminal.screen import Screen
from fieldguide.data.look.findings import Finding, Kind
from fieldguide.data.look.look_over import CheckReport
from fieldguide.errors import PhotosError, UsageError
from fieldguide.report.check_screen import check_lines
from tests.data.scenes import save, scaled, scene, write


@pytest.fixture
def photos(tmp_path):
    """Two classes of good photos, and one of them again in val at another size."""
    numbers = iter(range(1, 100))
    for name in ("ant", "bee <i>"):
        for part, count in (("train", 4), ("val", 1), ("test", 1)):
            for _ in range(count):
                number = next(numbers)
                save(scene(number), tmp_path / "photos" / part / name / f"{number:02d}.jpg")
    return tmp_path / "photos"


def with_a_leak(photos):
    save(scaled(scene(1), 0.6), photos / "val" / "ant" / "copy.jpg")
    return photos


def shown(report, width=120):
    console = Console(width=width, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(report, Screen(console))
    console.file.close()
    return console.export_text()


def test_photos_without_harm_end_with_0(photos):
    report = check(photos)
    assert report.exit_code == 0 and {finding.severity for finding in report.findings} <= {"note"}


def test_a_copy_of_a_training_photo_in_val_at_another_size_is_named_and_ends_with_1(photos):
    report = check(with_a_leak(photos))
    pair = [finding for finding in report.findings if finding.kind == "near_duplicate_across_parts"]
    assert [finding.files for finding in pair] == [("train/ant/01.jpg", "val/ant/copy.jpg")]
    assert report.exit_code == 1
    assert report.groups == (("train/ant/01.jpg", "val/ant/copy.jpg"),)


def test_the_json_file_holds_the_findings(photos, tmp_path):
    report = check(with_a_leak(photos), json_file=tmp_path / "found.json")
    made = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert made["findings"][0] == {
        "kind": "near_duplicate_across_parts",
        "severity": "harm",
        "part": "train, val",
        "classes": ["ant"],
        "files": ["train/ant/01.jpg", "val/ant/copy.jpg"],
        "message": report.findings[0].message,
    }
    assert made["used"] == report.used
    assert made["classes"][0] == {"name": "ant", "train": 4, "val": 2, "test": 1}


def test_the_page_shows_both_photos_of_a_pair_and_reads_no_name_as_markup(photos, tmp_path):
    save(scene(1), photos / "train" / "bee <i>" / "01.jpg")
    check(with_a_leak(photos), html_file=tmp_path / "found.html")
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") >= 4
    assert "bee &lt;i&gt;" in page and "<i>" not in page
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    assert not re.search(r"(src|href)=.https?:|<script", page)


HOSTILE_NAMES = (
    "</script><script>alert(1)<", "\" onerror='alert(2)'", "<img src=x onerror=alert(3)>", "{{ 7*7 }}", "&lt;u&gt;",
)  # fmt: skip


def test_names_and_metadata_of_photos_are_text_on_the_page_and_run_nothing(tmp_path):
    for number, name in enumerate(HOSTILE_NAMES):
        folder = tmp_path / "photos" / name.replace("/", "∕")
        folder.mkdir(parents=True)
        exif = Image.Exif()
        exif[0x010E] = "<script>alert(4)</script>"  # the image's description
        for place in (2 * number, 2 * number + 1):
            scene(2 * number).save(
                folder / f"{name.replace('/', '∕')}{place}.jpg", exif=exif, comment=b"<script>alert(5)"
            )
        (folder / "broken<svg onload=alert(6)>.jpg").write_bytes(b"<svg onload='alert(7)'/>")
    check(tmp_path / "photos", html_file=tmp_path / "found.html")
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    tags = re.findall(r"<(\w+)([^>]*)>", page)
    assert {name for name, _ in tags}.isdisjoint({"script", "svg", "u", "iframe"})
    assert not [attributes for _, attributes in tags if re.search(r"\son\w+\s*=", attributes)]
    pictures = [attributes for name, attributes in tags if name == "img"]
    assert pictures and all(attributes.startswith(' src="data:image/jpeg;base64,') for attributes in pictures)
    assert "{{ 7*7 }}" in page and "alert(4)" not in page and "alert(5)" not in page
    for made in re.findall(r"data:image/jpeg;base64,([\w+/=]+)", page):
        assert b"alert" not in base64.b64decode(made)
    assert "Content-Security-Policy" in page and "default-src 'none'" in page


def test_a_folder_whose_name_is_no_utf_8_can_be_checked(photos, tmp_path):
    root = photos.rename(tmp_path / "caf\udce9")
    check(root, json_file=tmp_path / "c.json", html_file=tmp_path / "c.html")
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["photos"] == f"{tmp_path}/caf\\xe9"
    assert "caf\\xe9" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_a_photo_that_cannot_be_decoded_is_on_the_page_by_its_name(photos, tmp_path):
    write(b"words", photos / "train" / "ant" / "words.jpg")
    check(photos, html_file=tmp_path / "found.html")
    assert "train/ant/words.jpg is not an image" in (tmp_path / "found.html").read_text(encoding="utf-8")


def test_nothing_is_written_among_the_photos(photos):
    before = sorted(photos.rglob("*"))
    check(photos)
    assert sorted(photos.rglob("*")) == before


def test_progress_is_told_to_its_end(photos):
    class Counting:
        def __init__(self, total):
            self.total, self.done = total, 0

        def __enter__(self):
            return self.advance

        def __exit__(self, *error):
            pass

        def advance(self, count):
            self.done += count

    told = {}
    check(photos, progress=lambda what, total: told.setdefault(what, Counting(total)))
    assert {what: (count.done, count.total) for what, count in told.items()} == {
        "looking at photos": (12, 12),
        "comparing photos, %": (100, 100),
    }


def test_a_wrong_folder_and_wrong_outputs_are_usage_errors(photos, tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(UsageError) as error:
        check(photos, json_file=tmp_path, html_file=tmp_path / "no" / "x.html")
    assert len(error.value.problems) == 2 and error.value.exit_code == 2


def test_a_folder_without_photos_is_told(tmp_path):
    with pytest.raises(PhotosError, match="no photos in class folders"):
        check(tmp_path)


def test_the_screen_shows_use_bars_findings_by_kind_and_the_verdict(photos):
    text = shown(check(with_a_leak(photos)))
    assert text.startswith("8 photos of 2 classes to train on, 3 for validation, 2 for test")
    assert re.search(r"bee <i> +4 █{40}  val 1  test 1", text)
    assert "harm  near_duplicate_across_parts  2 files" in text
    assert "val/ant/copy.jpg is nearly the same photo as train/ant/01.jpg" in text
    assert "1 finding would harm a training" in text


def test_many_classes_and_findings_fit_on_a_screen():
    classes = tuple({"name": f"{number}", "train": number + 1, "val": 0, "test": 0} for number in range(300))
    findings = tuple(
        Finding(Kind.TRUNCATED, ("train",), ("1",), (f"{n}.jpg",), f"{n}.jpg is cut off") for n in range(500)
    )
    lines = [line.text for line in check_lines(CheckReport("x", "used", findings, classes, ()).plain())]
    assert len(lines) < 60
    assert "... and 260 more classes with 41 to 300 photos" in lines
    assert "harm  truncated  500 files in 500 findings" in lines and "      ... and 497 more" in lines
