"""HEIC, AVIF, JPEG 2000 and JPEG XL: read by their content, and named with what installs a missing decoder."""

import numpy as np
import pytest

from fieldguide.data.look.facts import facts_of
from fieldguide.data.look.scan import Photo
from fieldguide.data.read import formats
from fieldguide.data.read.decode import UnreadableError, decode
from fieldguide.data.read.formats import FORMATS, format_of, has_image_ending, missing_decoders
from tests.odd_photos import encoded, picture

LATE = [known for known in FORMATS if known.decoder]


@pytest.mark.parametrize("kind", LATE, ids=lambda kind: kind.name)
def test_a_format_with_a_decoder_of_its_own_is_read(kind):
    content = encoded(picture(3), kind.plugin)
    assert format_of(content) is kind and all(has_image_ending(f"x{ending.upper()}") for ending in kind.endings)
    assert np.abs(np.asarray(decode(content)).astype(int) - np.asarray(picture(3))).mean() < 20
    for end in range(1, len(content), max(1, len(content) // 20)):
        try:
            assert decode(content[:end]).size == (40, 30)
        except UnreadableError as error:
            assert error.kind in ("truncated", "unreadable", "not_an_image")


@pytest.mark.parametrize("kind", LATE, ids=lambda kind: kind.name)
def test_a_missing_decoder_is_named_with_the_line_that_installs_it(kind, tmp_path, monkeypatch):
    path = tmp_path / f"x{kind.endings[0]}"
    path.write_bytes(encoded(picture(3), kind.plugin))
    assert missing_decoders([path]) == []
    monkeypatch.setattr(formats, "_has", lambda decoder: decoder != kind.decoder)
    facts = facts_of(Photo(path, path.name, "train", "a"))
    assert facts.reason_kind == "no_decoder" and kind.install in facts.reason and kind.name in facts.reason
    (sentence,) = missing_decoders([path, path, "y.jpg"])
    assert sentence.startswith(f"2 files ending in {kind.endings[0]}: ") and sentence.endswith(kind.install)


def test_a_heic_called_jpg_is_told_as_that(tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(picture(3), "HEIF"))
    facts = facts_of(Photo(path, path.name, "train", "a"))
    assert not facts.reason and "wrong_ending" in facts.traits and facts.format == "HEIF"
    monkeypatch.setattr(formats, "_has", lambda decoder: decoder != "pillow_heif")
    assert "is HEIC" in facts_of(Photo(path, path.name, "train", "a")).reason


def test_a_general_brand_is_what_its_list_of_brands_says():
    box = b"\0\0\0\x20ftypmif1\0\0\0\0mif1"
    assert format_of(box + b"avifmiaf" + bytes(64)).name == "AVIF"
    assert format_of(box + b"heicmiaf" + bytes(64)).name == "HEIC"
