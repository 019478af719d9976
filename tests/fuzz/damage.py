"""How a right file becomes a wrong one: bytes cut, flipped, repeated and put in, and words replaced by odd ones."""

import re

from hypothesis import strategies as st

ODD_WORDS = [
    *(b"", b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"Infinity", b"9" * 30, b"9" * 5_000, b"1e-400", b"[]"),
    *(b"{}", b'"\\ud800"', b'""', b"[" * 200, b"{" * 200, b"&a [*a, *a]", b"!!python/object:os.system x", b"? ", b"\0"),
    *(b"!!binary x", b"\xff\xfe", b"\r", b'"', b"2020-01-01", b"0x10", b"1:30", b"<<: 1", b"\xef\xbb\xbf", b"=", b"%n"),
    *(b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"A" * 70_000),
]
WORDS = re.compile(rb"-?[\w.]+|\"[^\"]*\"")


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of the seeds with one to six wounds."""
    content = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 6))):
        wound = draw(st.sampled_from((_flip, _cut, _put, _word, _twice, _number)))
        content = wound(draw, content)
    return content


def _place(draw: st.DrawFn, content: bytes) -> int:
    # Half of the places are in the header, where the sense of a file is.
    most = len(content) if draw(st.booleans()) else min(len(content), 400)
    return draw(st.integers(0, max(0, most)))


def _flip(draw: st.DrawFn, content: bytes) -> bytes:
    place = _place(draw, content)
    return content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]


def _cut(draw: st.DrawFn, content: bytes) -> bytes:
    place = _place(draw, content)
    return content[:place] if draw(st.booleans()) else content[:place] + content[place + draw(st.integers(1, 64)) :]


def _put(draw: st.DrawFn, content: bytes) -> bytes:
    place = _place(draw, content)
    return content[:place] + draw(st.binary(max_size=16) | st.sampled_from(ODD_WORDS)) + content[place:]


def _word(draw: st.DrawFn, content: bytes) -> bytes:
    words = list(WORDS.finditer(content[:4_000]))
    if not words:
        return content
    word = draw(st.sampled_from(words))
    return content[: word.start()] + draw(st.sampled_from(ODD_WORDS)) + content[word.end() :]


def _twice(draw: st.DrawFn, content: bytes) -> bytes:
    place = _place(draw, content)
    piece = content[place : place + draw(st.integers(1, 200))]
    return content[:place] + piece * draw(st.sampled_from((2, 3, 50))) + content[place:]


def _number(draw: st.DrawFn, content: bytes) -> bytes:
    """A number of 2, 4 or 8 bytes becomes an extreme one."""
    place, width = _place(draw, content), draw(st.sampled_from((2, 4, 8)))
    value = draw(st.sampled_from((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1, 65_535)))
    return content[:place] + value.to_bytes(width, draw(st.sampled_from(("little", "big")))) + content[place + width :]
