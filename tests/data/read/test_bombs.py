"""Files that promise or unfold to far more than they are."""

import os
import resource
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from fieldguide.data.read import decode as decoding
from fieldguide.data.read.bombs import tiff_tiles
from fieldguide.data.read.content import read_bytes
from fieldguide.data.read.decode import UnreadableError, decode, opened, to_rgb
from fieldguide.data.read.formats import FORMATS
from tests.odd_photos import encoded, in_mode, picture, png_chunk, tiled_tiff


def refused(content, words):
    with pytest.raises(UnreadableError, match=words) as caught:
        decode(content)
    assert caught.value.kind == "bomb"


def test_a_progressive_jpeg_of_endless_scans_is_refused():
    content = encoded(picture(1, (1_000, 1_000)).convert("L"), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    assert decode(content).size == (1_000, 1_000)
    refused(content[:last] + content[last:-2] * 20_000 + b"\xff\xd9", r"is a JPEG of 20,0\d\d scans over 1,000 x 1,000")


def test_metadata_that_pillow_joins_for_hours_is_refused_and_that_of_a_camera_is_not():
    jpeg = encoded(picture(1), "JPEG")
    segment = b"\xff\xe1\xff\xf0Exif\0\0" + bytes(0xFFF0 - 8)
    refused(jpeg[:2] + segment * 600 + jpeg[2:], "bytes of metadata")
    assert decode(jpeg[:2] + b"\xff\xff" + segment[1:] + segment * 20 + jpeg[2:]).size == (40, 30)


def test_a_png_of_endless_chunks_is_refused():
    png = encoded(picture(1), "PNG")
    refused(png[:33] + png_chunk(b"tEXt", b"a\0") * 500_001 + png[33:], "over 500,000 chunks")


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP"])
def test_metadata_that_unfolds_is_refused_before_it_takes_memory(chunk):
    png, data = encoded(picture(1), "PNG"), zlib.compress(bytes(50_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        decode(png[:33] + png_chunk(chunk, b"k\0\0" + data) + png[33:])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB


def test_a_tile_larger_than_any_photo_is_refused_in_either_order_of_bytes():
    refused(tiled_tiff(65_536, 65_536), "has tiles of 65,536 x 65,536 pixels")
    big_endian = b"MM\0*" + struct.pack(">IH", 8, 2) + struct.pack(">HHII", 322, 4, 1, 99_999)
    big_endian += struct.pack(">HHII", 323, 4, 1, 99_999) + bytes(4)
    assert "99,999 x 99,999" in tiff_tiles(big_endian, 1, 1, 200)
    bigtiff = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2) + struct.pack("<HHQQ", 322, 16, 1, 99_999)
    bigtiff += struct.pack("<HHQQ", 323, 16, 1, 99_999) + bytes(8)
    assert "99,999 x 99,999" in tiff_tiles(bigtiff, 1, 1, 200)


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_any_piece_of_a_file_is_looked_at_without_an_error(kind):
    content = encoded(picture(1), kind.plugin)
    for end in range(0, len(content), 7):
        assert kind.structure(content[:end]) is None
        assert kind.size(content[:end], 40, 30, 200) is None


@pytest.mark.parametrize("mode", ["LA", "RGBA", "I;16", "I", "F"])
def test_a_photo_converted_in_strips_is_the_same_to_the_bit(mode, monkeypatch):
    image = in_mode(picture(3), mode)
    whole = np.asarray(to_rgb(image))
    monkeypatch.setattr(decoding, "STRIP_PIXELS", 40 * 7)
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), whole)


def test_a_float_out_of_place_in_any_strip_is_found(monkeypatch):
    monkeypatch.setattr(decoding, "STRIP_PIXELS", 40)
    values = np.zeros((30, 40), np.float32)
    values[29, 39] = np.nan
    with pytest.raises(UnreadableError, match="pixels that are not numbers"):
        decode(encoded(Image.fromarray(values), "TIFF"))


def test_large_photos_are_decoded_one_at_a_time_and_small_ones_are_not(monkeypatch):
    monkeypatch.setattr(decoding, "LARGE_MEGAPIXELS", 0.001)
    large, small = encoded(picture(1, (100, 100)), "PNG"), encoded(picture(1, (10, 10)), "PNG")
    done = []
    with opened(large):
        other = threading.Thread(target=lambda: done.append(decode(large)))
        other.start()
        assert decode(small).size == (10, 10)
        other.join(0.2)
        assert not done
    other.join()
    assert done[0].size == (100, 100)


def test_a_large_jpeg_that_is_decoded_small_waits_for_no_other_unless_it_is_progressive(monkeypatch):
    monkeypatch.setattr(decoding, "LARGE_MEGAPIXELS", 0.01)
    plain, progressive = (encoded(picture(1, (400, 400)), "JPEG", progressive=is_so) for is_so in (False, True))
    done = []
    with opened(plain):
        assert decode(plain, least_px=50).size == (50, 50)
        other = threading.Thread(target=lambda: done.append(decode(progressive, least_px=50)))
        other.start()
        other.join(0.2)
        assert not done
    other.join()
    assert done[0].size == (50, 50)


def test_a_process_that_was_forked_while_a_thread_decoded_can_decode(monkeypatch):
    quiet = decoding.QuietCodec()
    held = quiet._lock()
    with held:  # by a thread that the new process does not have
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert quiet._lock() is not held


def test_a_worker_that_was_forked_while_a_large_photo_was_decoded_does_not_wait_for_it(monkeypatch):
    monkeypatch.setattr(decoding, "LARGE_MEGAPIXELS", 0.0)
    gate = decoding.OneAtATime()
    before = gate()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert gate() is not before


def test_a_pipe_that_took_a_photos_name_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(type(path), "stat", lambda self, **_: regular)
    with pytest.raises(UnreadableError, match="is not a regular file"):
        read_bytes(path)


def test_what_a_codec_says_comes_on_one_line_that_any_terminal_takes():
    with pytest.raises(UnreadableError) as caught, opened(encoded(picture(1), "PNG")):
        raise ValueError("a\x1b[31m\udcff\nsecond " + "x" * 500)
    assert str(caught.value) == "cannot be decoded (a [31m\\xff)"
