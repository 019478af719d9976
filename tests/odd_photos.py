"""Hundreds of odd files with an image's ending: every mode, every turn, and damage of every kind."""

import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldguide.data.read.formats import FORMATS as KNOWN
from fieldguide.data.read.formats import demand_decoder

CUT, FLIPPED = 12, 14  # a format: places at which a file is cut off, and files in which bytes are flipped
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F")
FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "GIF": ".gif"}


def picture(number: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A photo of patches that no other number has."""
    draw = np.random.default_rng([7, number])
    width, height = size
    coarse = draw.integers(0, 256, (5, 6, 3)).repeat(-(-height // 5), 0)[:height].repeat(-(-width // 6), 1)[:, :width]
    return Image.fromarray(coarse.astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a file."""
    if kind == "JXL":
        pytest.importorskip("pillow_jxl")
    for known in KNOWN:
        if known.plugin == kind:
            demand_decoder(known)  # a package that adds the format to Pillow
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The same picture in any of Pillow's modes."""
    gray = np.asarray(image.convert("L"))
    if mode == "I;16":
        return Image.fromarray(gray.astype(np.uint16) * 257)
    if mode == "I":
        return Image.fromarray(gray.astype(np.int32) * 257)
    if mode == "F":
        return Image.fromarray(gray.astype(np.float32) / 255)
    return image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)


def png_chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def odd_contents() -> dict[str, bytes]:
    """Files by name; more than 250, always the same."""
    found: dict[str, bytes] = {}
    for kind, ending in FORMATS.items():
        for mode in MODES:
            try:
                found[f"mode-{kind}-{mode.replace(';', '')}{ending}"] = encoded(
                    in_mode(picture(len(found)), mode), kind
                )
            except (OSError, ValueError):  # the format has no such mode
                continue
        whole = encoded(picture(len(found)), kind)
        for share in np.linspace(0.02, 0.98, CUT):
            found[f"cut-{kind}-{share:.2f}{ending}"] = whole[: int(share * len(whole))]
        draw = np.random.default_rng(len(found))
        for number in range(FLIPPED):
            damaged = bytearray(encoded(picture(len(found)), kind))
            for place in draw.integers(0, len(damaged), 6):
                damaged[place] ^= int(draw.integers(1, 256))
            found[f"flipped-{kind}-{number}{ending}"] = bytes(damaged)
        found[f"as-{kind}.jpg" if kind != "JPEG" else "as-JPEG.png"] = encoded(picture(len(found)), kind)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        for orientation in range(10):  # 0 and 9 are none
            exif = Image.Exif()
            exif[0x0112] = orientation
            found[f"turned-{kind}-{orientation}{FORMATS[kind]}"] = encoded(picture(len(found)), kind, exif=exif)
    for number, exif in enumerate(
        (b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*" + b"\xff" * 99)
    ):
        found[f"broken-exif-{number}.jpg"] = encoded(picture(len(found)), "JPEG", exif=exif)
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        frames = [picture(1000 + len(found) + number) for number in range(3)]
        options: dict[str, object] = {"save_all": True, "append_images": frames[1:]}
        found[f"animated-{kind}{FORMATS[kind]}"] = encoded(frames[0], kind, **options)
    found |= _shapes() | _bombs()
    for name in NAMES:
        found[f"{name}.png"] = encoded(picture(len(found)), "PNG")
    return found


def _shapes() -> dict[str, bytes]:
    made = {
        "long.png": (1, 30_000),
        "wide.jpg": (30_000, 1),
        "one.png": (1, 1),
        "two.jpg": (2, 1),
        "line.gif": (1, 300),
    }
    return {name: encoded(picture(500 + i, size), FORMAT_OF[name[-3:]]) for i, (name, size) in enumerate(made.items())}


NAMES = (
    "a b", "it's", 'say "so"', "two\nlines", "old\rmac", "fern🌿", "-dash", "=1+1", "+x", "@sum", "\xe9", "e\u0301",
    "comma,", "semi;colon", "tab\tbed", "A-case", "a-case", "x" * 246, "\x1b[31mred", "<script>", "%s", "NA",
)  # fmt: skip
FORMAT_OF = {"png": "PNG", "jpg": "JPEG", "gif": "GIF"}


def _bombs() -> dict[str, bytes]:
    """Files that promise or unfold to far more than they are."""
    png, jpeg = encoded(picture(600), "PNG"), encoded(picture(601), "JPEG")
    huge = bytearray(png)
    huge[16:24] = struct.pack(">II", 60_000, 60_000)
    huge[29:33] = struct.pack(">I", zlib.crc32(huge[12:29]))
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"0" * 900_000))
    profile = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(b"0" * 50_000_000))
    return {
        "empty.jpg": b"",
        "one-byte.png": b"\x89",
        "text.jpg": b"this is no photo",
        "page.gif": b"<html><script>alert(1)</script></html>",
        "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "zeros.bmp": bytes(5_000),
        "bomb-size.png": bytes(huge),
        "bomb-text.png": png[:33] + text * 100 + png[33:],
        "bomb-profile.png": png[:33] + profile + png[33:],
        "bomb-tile.tif": tiled_tiff(65_536, 65_536),
        "bomb-metadata.jpg": jpeg[:2] + (b"\xff\xe1\xff\xf0Exif\0\0" + bytes(0xFFF0 - 8)) * 600 + jpeg[2:],
        "trailing.jpg": jpeg + b"PK\x03\x04 and more" * 100,
    }


def tiled_tiff(tile_width: int, tile_length: int) -> bytes:
    """A TIFF of one pixel, whose one tile says that it is of this size."""
    data, offset = zlib.compress(bytes(1_000)), 8 + 2 + 10 * 12 + 4
    tags = [(256, 1), (257, 1), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile_width), (323, tile_length),
            (324, offset), (325, len(data))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def write_odd_photos(folder: Path) -> list[str]:
    """Fills a folder; the names that stand for a file each, as fieldguide writes them.

    Beside files there are a link to nowhere, links in a circle, a pipe, a socket, a folder called like a photo (with a
    photo in it), and a name that is no UTF-8.
    """
    folder.mkdir(parents=True)
    names = []
    for name, content in odd_contents().items():
        (folder / name).write_bytes(content)
        names.append(name)
    inside = folder / "folder.jpg"
    inside.mkdir()
    (inside / "in.png").write_bytes(encoded(picture(700), "PNG"))
    (inside / "circle").symlink_to(folder)
    (folder / "nowhere.jpg").symlink_to("nothing")
    (folder / "ring.jpg").symlink_to("ring.jpg")
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        place = os.open(folder, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{place}/socket.jpg")
        os.close(place)
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))).write_bytes(encoded(picture(701), "PNG"))
    return sorted([*names, "folder.jpg/in.png", "nowhere.jpg", "ring.jpg", "pipe.jpg", "socket.jpg", "caf\\xe9.png"])
