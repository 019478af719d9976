"""A file to RGB pixels: every mode, every orientation, every damage."""

import io
import os
import socket
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from fieldguide.data.read.content import read_bytes
from fieldguide.data.read.decode import UnreadableError, as_decoded, decode, read_photo, to_rgb
from tests.data.photo_folders import make_photo

EXIF_FORMATS = {"JPEG": {"quality": 95, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(content):
    image = decode(content)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def corner(content):
    return tuple(int(value) for value in pixels(content)[0, 0])


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("1", (3, 2), 1), "PNG", (255, 255, 255)),
        (Image.new("L", (3, 2), 77), "PNG", (77, 77, 77)),
        (Image.new("L", (3, 2), 77), "JPEG", (77, 77, 77)),
        (Image.new("LA", (3, 2), (100, 0)), "PNG", (255, 255, 255)),
        (Image.new("LA", (3, 2), (100, 255)), "PNG", (100, 100, 100)),
        (Image.new("RGBA", (3, 2), (200, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (3, 2), (200, 0, 0, 255)), "PNG", (200, 0, 0)),
        (Image.new("RGBA", (3, 2), (0, 0, 0, 51)), "PNG", (204, 204, 204)),
        (Image.new("RGBA", (3, 2), (0, 0, 0, 51)), "WEBP", (204, 204, 204)),
        (Image.new("CMYK", (3, 2), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.fromarray(np.full((2, 3), 257 * 77, np.uint16)), "PNG", (77, 77, 77)),
        (Image.fromarray(np.full((2, 3), 65_535, np.uint16)), "TIFF", (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 77, np.int32)), "TIFF", (0, 0, 0)),  # one scale for all
        (Image.fromarray(np.full((2, 3), 257 * 77, np.int32)), "TIFF", (77, 77, 77)),
        (Image.fromarray(np.full((2, 3), 0.5, np.float32)), "TIFF", (128, 128, 128)),
        (Image.fromarray(np.full((2, 3), 77.0, np.float32)), "TIFF", (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(image, kind, expected):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.abs(np.subtract(corner(encoded(image, kind, **options)), expected)).max() <= (kind == "JPEG")


def test_palettes_with_and_without_transparency_become_rgb():
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert corner(encoded(image)) == (10, 20, 30)
    assert corner(encoded(image, transparency=1)) == (255, 255, 255)
    assert corner(encoded(image, transparency=b"\x00\x33")) == (206, 208, 210)
    assert corner(encoded(image, "GIF", transparency=1)) == (255, 255, 255)
    assert to_rgb(image.convert("PA")).getpixel((0, 0)) == (10, 20, 30)


def test_one_colour_of_gray_or_rgb_can_be_transparent():
    assert corner(encoded(Image.new("RGB", (3, 2), (1, 2, 3)), transparency=(1, 2, 3))) == (255, 255, 255)
    assert corner(encoded(Image.new("L", (3, 2), 9), transparency=9)) == (255, 255, 255)


def test_16_bit_colour_takes_its_upper_half():
    raw = b"".join(b"\0" + struct.pack(">3H", 77 * 257, 0, 65_535) * 2 for _ in range(2))

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    assert corner(content) == (77, 0, 255)


@pytest.mark.parametrize(("ink", "expected"), [((0, 0, 0, 255), 0), ((128, 128, 128, 0), 127)])
def test_cmyk_and_ycck_jpegs_of_a_press_come_out_in_their_colours(ink, expected):
    """Photoshop's CMYK JPEGs hold inverted values; the Adobe marker's transform 2 says YCCK."""
    cmyk = encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95)
    ycck = bytearray(cmyk)
    ycck[cmyk.index(b"Adobe\x00") + 11] = 2
    for content in (cmyk, bytes(ycck)):
        assert np.abs(pixels(content) - expected).max() <= 4


@pytest.mark.parametrize("kind", EXIF_FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_comes_out_upright(kind, orientation):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8], upright[:8, 8:], upright[8:, :8] = (255, 255, 255), (255, 0, 0), (0, 0, 255)
    turned = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    turned |= {7: "TRANSVERSE", 8: "ROTATE_270"}  # how the camera held the photo when it wrote it
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose[turned[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = pixels(encoded(stored, kind, exif=exif, **EXIF_FORMATS[kind]))
    assert found.shape == upright.shape
    assert np.abs(found - upright).mean() < 3


@pytest.mark.parametrize("kind", EXIF_FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_that_a_caller_opened_becomes_what_its_file_gives_and_stays_as_it_is(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(make_photo("x", orientation, (24, 16)), kind, exif=exif, **EXIF_FORMATS[kind])
    image, loaded = (Image.open(io.BytesIO(content)) for _ in range(2))
    loaded.load()  # which turns a TIFF
    for _ in range(2):
        assert np.array_equal(np.asarray(as_decoded(image)), pixels(content))
    assert image.size == loaded.size and image.getexif() == loaded.getexif()


def test_an_image_whose_file_is_cut_off_or_closed_is_unreadable_as_its_file_is():
    content = encoded(make_photo("x", 0, (200, 150)), "JPEG")[:-300]
    with pytest.raises(UnreadableError, match="is cut off") as caught:
        as_decoded(Image.open(io.BytesIO(content)))
    assert caught.value.kind == "truncated"
    with Image.open(io.BytesIO(content)) as closed:
        pass
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        as_decoded(closed)


def test_a_photo_that_there_is_no_memory_to_turn_is_unreadable_rather_than_unturned(monkeypatch):
    def none_left(*_, **__):
        raise MemoryError

    monkeypatch.setattr(ImageOps, "exif_transpose", none_left)
    for attempt in (lambda: decode(encoded(make_photo("x", 0))), lambda: as_decoded(make_photo("x", 0))):
        with pytest.raises(UnreadableError, match="needs more memory than is available"):
            attempt()


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0" + b"x" * 50,
        b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x112, 2, 4, 0x41414141) + b"\0\0\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x112, 3, 1, 99, 0) + b"\0\0\0\0",
    ],
)
def test_broken_exif_counts_as_none(exif):
    image = make_photo("x", 0)
    assert np.array_equal(pixels(encoded(image, "JPEG", exif=exif)), pixels(encoded(image, "JPEG")))


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("PNG", {})])
def test_of_several_frames_the_first_is_taken(kind, options):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert corner(content) == (250, 0, 0)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_a_photo_cut_off_anywhere_is_unreadable_or_whole_never_half(kind, options, capfd):
    content = encoded(make_photo("x", 0), kind, **options)
    whole = pixels(content)
    unreadable = 0
    for length in range(1, len(content), max(1, len(content) // 60)):
        try:
            assert np.array_equal(pixels(content[:length]), whole), length
        except UnreadableError as error:
            unreadable += 1
            assert str(error).startswith(("is cut off", "cannot be decoded", "is not an image"))
    assert unreadable > 50


def test_too_many_pixels_are_refused_before_they_take_memory():
    content = bytearray(encoded(Image.new("1", (4, 4))))
    content[16:24] = struct.pack(">II", 40_000, 40_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(UnreadableError, match=r"has 40,000 x 40,000 pixels, over data\.max_megapixels 200"):
        decode(bytes(content))
    with pytest.raises(UnreadableError, match=r"over data\.max_megapixels 0\.001"):
        decode(encoded(make_photo("x", 0)), reading=0.001)
    assert decode(encoded(make_photo("x", 0)), reading=0.0012).size == (40, 30)


def test_what_is_no_photo_is_told_with_its_reason(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("this is no photo")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket.jpg"))
    listener.close()
    make_photo("x", 0).save(tmp_path / "icon.ico")
    reasons = {}
    for path in tmp_path.iterdir():
        with pytest.raises(UnreadableError) as caught:
            read_photo(path)
        reasons[path.stem] = str(caught.value)
    assert reasons == {
        "empty": "is empty",
        "text": "is not an image that can be read",
        "folder": "is a folder",
        "gone": "does not exist",
        "pipe": "is not a regular file",
        "socket": "is not a regular file",
        "icon": "is not an image that can be read",
    }
    with pytest.raises(UnreadableError, match="File name too long"):
        read_bytes(tmp_path / ("x" * 300))
    with pytest.raises(UnreadableError, match="null byte"):
        read_bytes(tmp_path / "a\0b")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(UnreadableError, match="is a file of 1,073,741,825 bytes"):
        read_bytes(tmp_path / "huge.jpg")


def test_decoding_in_many_threads_leaves_pillow_and_warnings_as_they_were():
    good, bad = (
        encoded(make_photo("x", 0), "JPEG"),
        encoded(make_photo("x", 0), "JPEG", exif=b"Exif\0\0II*\0" + b"\xff" * 9),
    )
    filters, bound = list(warnings.filters), Image.MAX_IMAGE_PIXELS

    def work():
        for _ in range(40):
            decode(good)
            decode(bad)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == filters and bound == Image.MAX_IMAGE_PIXELS and bound is not None


def smooth_jpeg(path, size, orientation=None):
    """A photo with detail at every scale down to 4 px, as a camera's would have."""
    draw = np.random.default_rng(7)

    def detail(scale):
        values = draw.normal(128, 60, (-(-size[1] // scale), -(-size[0] // scale), 3)).clip(0, 255).astype(np.uint8)
        return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC), dtype=float)

    image = sum(detail(scale) for scale in (4, 16, 64, 256)) / 4
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, quality=92, exif=exif)
    return path


@pytest.mark.parametrize("size, least_px, expected", [
    ((1600, 1200), 512, (800, 600)), ((1600, 1200), 300, (400, 300)), ((1600, 1200), 601, (1600, 1200)),
    ((500, 375), 512, (500, 375)), ((1601, 1203), 512, (801, 602)), ((300, 2400), 64, (75, 600)),
])  # fmt: skip
def test_a_large_jpeg_is_decoded_smaller_but_never_below_what_is_asked_for(tmp_path, size, least_px, expected):
    path = smooth_jpeg(tmp_path / "a.jpg", size)
    assert read_photo(path, least_px=least_px).size == expected
    assert read_photo(path).size == size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_smaller_decoding_is_upright_and_the_same_photo_within_tolerance(tmp_path, orientation):
    path = smooth_jpeg(tmp_path / "a.jpg", (1200, 900), orientation)
    whole, small = read_photo(path), read_photo(path, least_px=400)
    assert small.size == ((600, 450) if orientation < 5 else (450, 600))
    side = (200, 150) if orientation < 5 else (150, 200)
    one, other = (np.asarray(image.resize(side, Image.Resampling.BILINEAR), dtype=float) for image in (whole, small))
    assert np.abs(one - other).mean() < 1 and np.abs(one - other).max() < 12


def test_other_formats_are_decoded_at_their_own_size(tmp_path):
    Image.fromarray(np.zeros((900, 1200, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png", least_px=100).size == (1200, 900)
