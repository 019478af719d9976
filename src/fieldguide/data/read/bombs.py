"""Files that would take the codec's time or memory far beyond their pixels, found by their bytes alone."""

import struct

MOST_METADATA_BYTES = 2**25  # Pillow joins a JPEG's segments one by one: 50 MB of them take it 16 s, 32 MB 6 s
MOST_SCANNED_MEGAPIXELS = 20_000  # a progressive JPEG's scans times its size: 7 s; what cameras write stays below 4,000
MOST_PNG_CHUNKS = 500_000  # 3 s
TIFF_INTEGERS = {3: "H", 4: "I", 16: "Q"}
TILE_WIDTH, TILE_LENGTH = 322, 323
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


def jpeg_scans(content: bytes, width: int, height: int, _megapixels: float) -> str | None:
    """Why a JPEG takes far more work than its pixels; None if it does not."""
    scans = content.count(b"\xff\xda")
    if scans * width * height / 1e6 > MOST_SCANNED_MEGAPIXELS:
        return f"is a JPEG of {scans:,} scans over {width:,} x {height:,} pixels"
    return None


def tiff_tiles(content: bytes, _width: int, _height: int, max_megapixels: float) -> str | None:
    """Why a TIFF takes far more memory than its pixels; None if it does not."""
    tags = _tile_sides(content)
    across, down = tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0)
    if across * down > max_megapixels * 1e6:
        return f"has tiles of {across:,} x {down:,} pixels, over data.max_megapixels {max_megapixels:g}"
    return None


def jpeg_metadata(content: bytes) -> str | None:
    """Why a JPEG would keep the codec busy before its pixels count; None if it would not."""
    place = 2
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            place += 1  # the codec looks for the next marker, too
            continue
        marker = content[place + 1]
        if marker in (START_OF_SCAN, END_OF_IMAGE):
            break
        place += 1 if marker == 0xFF else 2
        if marker not in (0x00, 0xFF) and marker not in WITHOUT_LENGTH:
            place += int.from_bytes(content[place : place + 2])
        if place > MOST_METADATA_BYTES:
            break
    place = min(place, len(content))
    return f"holds over {place:,} bytes of metadata" if place > MOST_METADATA_BYTES else None


def png_chunks(content: bytes) -> str | None:
    """Why a PNG would keep the codec busy before its pixels count; None if it would not."""
    place, chunks = 8, 0
    while place + 8 <= len(content) and chunks <= MOST_PNG_CHUNKS:
        place += 12 + int.from_bytes(content[place : place + 4])
        chunks += 1
    return f"consists of over {MOST_PNG_CHUNKS:,} chunks" if chunks > MOST_PNG_CHUNKS else None


def _tile_sides(content: bytes) -> dict[int, int]:
    """Width and length of the tiles of a TIFF's first page; empty where it has none or is cut off."""
    order, is_big = "<" if content[:2] == b"II" else ">", b"+" in content[2:4]
    page_format, count_format, entry_bytes = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    tags = {}
    try:
        (page,) = struct.unpack_from(order + page_format, content, 8 if is_big else 4)
        (entries,) = struct.unpack_from(order + count_format, content, page)
        first = page + struct.calcsize(order + count_format)
        for place in range(first, first + min(entries, 65_535) * entry_bytes, entry_bytes):
            tag, kind = struct.unpack_from(order + "HH", content, place)
            if tag in (TILE_WIDTH, TILE_LENGTH) and kind in TIFF_INTEGERS:
                value = place + entry_bytes - struct.calcsize(order + page_format)
                (tags[tag],) = struct.unpack_from(order + TIFF_INTEGERS[kind], content, value)
    except (struct.error, OverflowError):
        pass  # cut off: the codec says so
    return tags
