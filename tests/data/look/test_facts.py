import hashlib
import struct
import zlib

import imagehash
import numpy as np
import pytest
from PIL import Image

from fieldguide.data.look.facts import facts_of
from fieldguide.data.look.looked_at import look_at
from fieldguide.data.look.scan import Photo
from fieldguide.data.read.decode import UnreadableError, decode
from tests import odd_photos
from tests.data.scenes import encoded, save, scene, write


def look(path, **options):
    return facts_of(Photo(path, f"train/a/{path.name}", "train", "a"), **options)


def png_header(width, height):
    """A PNG that claims a size and holds nearly nothing."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def test_a_good_photo_has_no_reason_and_its_size_hash_and_print(tmp_path):
    path = save(scene(1), tmp_path / "x.jpg")
    found = look(path)
    assert (found.reason, found.format, found.width, found.height, found.traits) == ("", "JPEG", 160, 120, frozenset())
    assert found.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.print.gray.shape == (96, 96) and found.print.colour.shape == (2, 32, 32)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"these are words, no picture", "not_an_image"),
        (encoded(scene(1))[:2000], "truncated"),
        (png_header(60_000, 60_000), "bomb"),
    ],
)
def test_what_cannot_be_used_has_a_kind_and_a_reason(tmp_path, content, kind):
    found = look(write(content, tmp_path / "x.jpg"))
    assert found.reason_kind == kind and found.reason and found.print is None


def test_a_file_that_is_gone_is_unreadable(tmp_path):
    assert look(tmp_path / "gone.jpg").reason_kind == "unreadable"


@pytest.mark.parametrize("options", [{"quality": 90}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_draft_refuses_whatever_a_full_decoding_refuses(tmp_path, options):
    content = encoded(scene(3, (1200, 900)), **options)
    for left in (0.1, 0.3, 0.6, 0.9, 0.99):
        cut_off = content[: int(left * len(content))]
        with pytest.raises(UnreadableError) as full:
            decode(cut_off)
        found = look(write(cut_off, tmp_path / "x.jpg"))
        assert found.reason_kind == full.value.kind == "truncated"


def rotated_jpeg(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    return save(scene(2), path, exif=exif)


def deep_gray(path):
    values = np.asarray(scene(2).convert("L")).astype(np.uint16) * 257
    return save(Image.fromarray(values), path)


def animation(path):
    return save(scene(2), path, save_all=True, append_images=[scene(3)])


@pytest.mark.parametrize(
    ("name", "make", "traits"),
    [
        ("x.png", lambda path: save(scene(2), path, "JPEG"), {"wrong_ending"}),
        ("x.JPG", lambda path: save(scene(2), path, "JPEG"), set()),
        ("x.jpg", lambda path: save(scene(2, (40, 30)), path), {"tiny"}),
        ("x.jpg", lambda path: save(scene(2, (400, 60)), path), {"elongated"}),
        ("x.jpg", rotated_jpeg, {"exif_rotated"}),
        ("x.jpg", lambda path: save(scene(2).convert("L"), path), {"grayscale"}),
        ("x.jpg", lambda path: save(scene(2).convert("CMYK"), path), {"cmyk"}),
        ("x.png", deep_gray, {"grayscale", "sixteen_bit"}),
        ("x.png", lambda path: save(scene(2).convert("RGBA"), path), {"alpha"}),
        ("x.gif", animation, {"animated"}),
        ("x.webp", animation, {"animated"}),
        ("x.bmp", lambda path: save(scene(2), path), set()),
    ],
)
def test_traits(tmp_path, name, make, traits):
    found = look(make(tmp_path / name))
    assert found.reason == "" and found.traits == traits


def test_a_rotated_photo_is_measured_and_printed_upright(tmp_path):
    found = look(rotated_jpeg(tmp_path / "x.jpg"))
    assert (found.width, found.height) == (120, 160)
    upright = look(save(scene(2).transpose(Image.Transpose.ROTATE_270), tmp_path / "y.jpg"))
    assert (found.print.phash ^ upright.print.phash).bit_count() <= 2


def test_the_hash_is_that_of_imagehash_up_to_the_shrinking(tmp_path):
    image = scene(5)
    path = save(image, tmp_path / "x.png")
    expected = int(str(imagehash.phash(image)), 16)
    assert (look(path).print.phash ^ expected).bit_count() <= 2


def test_a_page_of_one_colour_is_flat(tmp_path):
    assert look(save(Image.new("RGB", (64, 64), "teal"), tmp_path / "x.png")).print.is_flat
    assert not look(save(scene(1), tmp_path / "y.png")).print.is_flat


def test_photos_come_back_in_order_and_each_is_counted(tmp_path):
    photos = [Photo(save(scene(n), tmp_path / f"{n}.jpg"), f"{n}.jpg", "train", "a") for n in (3, 1, 2)]
    done = []
    assert [entry.photo for entry in look_at(photos, 200, done.append)] == photos
    assert done == [1, 1, 1]


def test_a_png_whose_pixels_are_broken_is_no_photo_with_broken_exif(tmp_path):
    """Pillow decodes a PNG when it is asked for its EXIF data; its complaint must not pass for that of broken EXIF."""
    content = bytearray(odd_photos.encoded(odd_photos.picture(3), "PNG"))
    content[-40] ^= 0xFF
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnreadableError) as refused:
        decode(bytes(content))
    assert facts_of(Photo(tmp_path / "a.png", "a.png", "train", "x")).reason == str(refused.value)
