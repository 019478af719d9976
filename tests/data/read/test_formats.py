from pathlib import Path

import pytest
from PIL import Image

from fieldguide.data.look.files import is_image
from fieldguide.data.read.decode import UnreadableError, decode
from fieldguide.data.read.formats import ENDINGS, FORMATS, format_of, has_image_ending, is_misnamed
from tests.odd_photos import encoded, picture

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_each_format_is_found_by_content_read_by_its_plugin_and_told_from_the_others_by_its_ending(kind):
    content = encoded(picture(1), kind.plugin)
    assert format_of(content) is kind
    assert decode(content).size == (40, 30)
    for other in FORMATS:
        for ending in other.endings:
            assert is_misnamed(f"a/x{ending.upper()}", kind.plugin) == (other is not kind)


def test_a_cameras_photo_of_several_frames_may_end_as_a_jpeg():
    assert not is_misnamed("x.jpg", "MPO") and is_misnamed("x.png", "MPO")


def test_what_begins_as_no_known_format_is_no_image_whatever_its_name():
    assert format_of(b"") is None and format_of(b"RIFF\0\0\0\0WAVE") is None
    with pytest.raises(UnreadableError, match="is not an image that can be read") as caught:
        decode(b"%PDF-1.7")
    assert caught.value.kind == "not_an_image"


def test_a_format_of_pillows_that_is_not_in_the_table_is_refused():
    with pytest.raises(UnreadableError, match="is not an image that can be read"):
        decode(encoded(Image.new("RGB", (4, 4)), "PPM"))


def test_a_photo_is_known_by_its_ending_in_any_case():
    assert is_image(Path("a/B.JPG")) and has_image_ending("b.Tiff")
    assert not is_image(Path("a/.b.jpg")) and not has_image_ending("jpg") and not has_image_ending("b.jpg.txt")


def test_no_ending_belongs_to_two_formats():
    assert sum(len(kind.endings) for kind in FORMATS) == len(ENDINGS)


def test_the_documents_name_every_ending():
    text = " ".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert not [ending for ending in ENDINGS if f"{ending} " not in text and f"{ending}," not in text]
