"""What the look keeps of photos: the same pixels as decoding them again, within its room."""

import os

import numpy as np
import pytest
from PIL import Image

from fieldguide.data.look.facts import facts_of
from fieldguide.data.look.looked_at import look_at
from fieldguide.data.look.scan import Photo
from fieldguide.data.read import decode as decoding
from fieldguide.data.read.contents import Contents
from fieldguide.data.read.decode import UnreadableError, decode, draft_divisor
from fieldguide.data.read.photo_pixels import PhotoPixels, ToJudge
from fieldguide.data.read.reading import Reading
from fieldguide.storage import digest
from tests.data.scenes import save, scene
from tests.odd_photos import odd_contents

PLENTY = 10**9


def photo_at(path, part="train"):
    return Photo(path, f"{part}/a/{path.name}", part, "a")


def large(path, size=(1200, 900)):
    Image.fromarray(np.asarray(scene(1).resize(size))).save(path, quality=90)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_what_is_kept_is_what_decoding_gives(tmp_path, fit):
    reading, kept = Reading(fit=fit), 0
    for name, content in odd_contents().items():
        path, contents = tmp_path / name, Contents(PLENTY)
        path.write_bytes(content)
        facts_of(photo_at(path), reading, contents)
        for least in (None, 40, 300):
            found = contents.decoded(digest(content), reading, least)
            kept += found is not None
            if found is not None:
                assert np.array_equal(found, decode(content, reading, least)), (name, least)
    assert kept > 30


@pytest.mark.parametrize(("least", "is_kept"), [(None, False), (451, False), (450, True), (300, True), (225, False)])
def test_a_draft_serves_whoever_would_make_the_same(tmp_path, least, is_kept):
    path, contents = large(tmp_path / "a.jpg"), Contents(PLENTY)
    facts = facts_of(photo_at(path), 200, contents)
    found = contents.decoded(facts.content_hash, Reading(), least)
    assert (found is not None) == is_kept and (found is None or found.size == (600, 450))


@pytest.mark.parametrize("size", [(1200, 900), (900, 1201), (2047, 2049), (301, 4000), (255, 255), (17, 9)])
def test_the_divisor_is_pillows(tmp_path, size):
    path = large(tmp_path / "a.jpg", size)
    for least in (1, 40, 100, 256, 900):
        with Image.open(path) as image:
            image.draft(None, (least, least))
            divisor = draft_divisor(size, least)
            assert image.size == tuple(-(-side // divisor) for side in size)


def test_a_photo_is_decoded_once_for_the_look_and_the_training(tmp_path, monkeypatch):
    paths = [save(scene(number), tmp_path / f"{number}.{kind}") for number, kind in enumerate(("jpg", "png"))]
    paths.append(large(tmp_path / "large.jpg"))
    photos, contents, opened = [photo_at(path) for path in paths], Contents(PLENTY), []
    real = decoding.opened
    for place in ("look.facts", "read.decode", "read.photo_pixels"):
        monkeypatch.setattr(f"fieldguide.data.{place}.opened", lambda *a, **k: opened.append(1) or real(*a, **k))
    facts = look_at(photos, 200, lambda _: None, contents)
    wanted = [
        type("Wanted", (), {"path": f.photo.path, "file": f.photo.file, "content_hash": f.content_hash}) for f in facts
    ]
    for path in paths:
        path.unlink()
    pixels = PhotoPixels(256, 200, contents, least_px=256)
    assert [pixels.read(each).shape for each in wanted] == [(120, 160, 3), (120, 160, 3), (256, 341, 3)]
    assert len(opened) == 3
    judged = ToJudge(wanted, PhotoPixels(0, 200, contents))
    assert judged["train/a/0.jpg"].size == (160, 120) and judged["train/a/large.jpg"] == paths[2], (
        "whole, from its file"
    )


def test_test_photos_and_those_beyond_the_room_are_not_kept(tmp_path):
    path = save(scene(1), tmp_path / "a.png")
    size, needed = os.path.getsize(path), 3 * 160 * 120
    for part, room, is_kept in (("test", PLENTY, False), ("train", needed, False), ("train", 2 * needed, True)):
        contents = Contents(room)
        [facts] = look_at([photo_at(path, part)], 200, lambda _: None, contents)
        assert (contents.decoded(facts.content_hash, Reading(), None) is not None) == is_kept, (part, room)
    assert size < needed
    contents.clear()
    assert contents.decoded(facts.content_hash, Reading(), None) is None


def test_bytes_stay_where_pixels_do_not_fit(tmp_path):
    path = save(scene(1), tmp_path / "a.png")
    contents = Contents(os.path.getsize(path) + 10)
    look_at([photo_at(path)], 200, lambda _: None, contents)
    content = path.read_bytes()
    path.unlink()
    assert contents.again(path) == content
    with pytest.raises(UnreadableError):
        Contents(PLENTY).again(path)


def test_values_of_more_than_8_bits_wait_for_the_range_of_all(tmp_path):
    path, contents = tmp_path / "a.png", Contents(PLENTY)
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(path)
    facts = facts_of(photo_at(path), 200, contents)
    assert facts.values is not None and contents.decoded(facts.content_hash, Reading(), None) is None
