"""The bytes of a table as text: its encoding, and what separates its columns."""

import codecs
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence

from fieldguide.data.read.formats import ENDINGS
from fieldguide.errors import UsageError

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
SPACE = " "  # `path label`, as in ImageNet's lists
LOOKED_AT = 200  # lines from which the separator is known
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ENDINGS = "|".join(sorted((re.escape(ending) for ending in ENDINGS), key=len, reverse=True))
WITH_ENDING = re.compile(rf"\s*(.*?(?:{_ENDINGS}))\s+(\S.*?)\s*", re.IGNORECASE)
TWO_WORDS = re.compile(r"\s*(\S+)\s+(\S+)\s*")


def decoded(content: bytes, name: str) -> tuple[str, str]:
    """A table's text with `\\n` at the ends of lines, and a remark if its encoding had to be assumed.

    Raises UsageError if it is no text.
    """
    encoding, remark = _encoding(content), ""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise UsageError(f"{name}: is damaged: it begins as {encoding} but is not ({error.reason})") from None
        text = _western(content)
        remark = f"{name}: is not UTF-8; read as Latin-1 (Windows-1252). If names look wrong, save it as UTF-8"
    if "\0" in text[:100_000]:
        raise UsageError(f"{name}: is not a table of text; expected CSV, TSV, Parquet, JSON lines or COCO JSON")
    text = text.replace("\r\n", "\n")
    return (text if "\n" in text else text.replace("\r", "\n")), remark


def _encoding(content: bytes) -> str:
    for mark, encoding in BOMS:
        if content.startswith(mark):
            return encoding
    head = content[:4_000]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) > 3 and max(even, odd) > 0.4 * len(head) / 2:  # letters of UTF-16 without a mark
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8"


def _western(content: bytes) -> str:
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:  # five bytes have no meaning there
        return content.decode("latin-1")


def separator_of(text: str, name: str, is_heading: Callable[[Sequence[str]], bool]) -> str:
    """What separates the columns; `is_heading` knows a first line by its words.

    A table of one column counts as separated by commas. Raises UsageError if there are two ways to read it.
    """
    lines = list(itertools.islice((line for line in io.StringIO(text) if line.strip()), LOOKED_AT))
    rows = {mark: _split(lines, mark) for mark in SEPARATORS}
    headed = [mark for mark, found in rows.items() if found and len(found[0]) > 1 and is_heading(found[0])]
    if len(headed) == 1:
        return headed[0]
    fitting = [mark for mark, found in rows.items() if found and len(found[0]) > 1 and _is_even(found)]
    if len(fitting) > 1:
        told = " or ".join(SEPARATORS[mark] for mark in fitting)
        raise UsageError(
            f"{name}: line 1 could be separated by {told}; expected a heading such as file{fitting[0]}label, or one "
            "separator only"
        )
    if fitting:
        return fitting[0]
    if any(WITH_ENDING.fullmatch(line) or TWO_WORDS.fullmatch(line) for line in lines[:1]) and _is_list(lines):
        return SPACE
    counts = {mark: len(found[0]) for mark, found in rows.items() if found}
    return max(counts, key=lambda mark: counts[mark]) if counts else ","


def _split(lines: Sequence[str], mark: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines, delimiter=mark) if row]
    except csv.Error:
        return []


def _is_even(rows: Sequence[Sequence[str]]) -> bool:
    """Whether nearly all lines have as many columns; a damaged line is named later."""
    most = Counter(map(len, rows)).most_common(1)[0]
    return most[0] > 1 and most[1] >= 0.9 * len(rows)


def _is_list(lines: Sequence[str]) -> bool:
    return all(WITH_ENDING.fullmatch(line) or TWO_WORDS.fullmatch(line) for line in lines)


def listed(text: str, name: str) -> list[tuple[str, str]]:
    """Path and label of each line of an ImageNet list; raises UsageError with the line that is none."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            found.append(("", ""))
        elif match := WITH_ENDING.fullmatch(line) or TWO_WORDS.fullmatch(line):
            found.append((match[1], match[2]))
        else:
            raise UsageError(f"{name}: line {number}: expected a path and a label, got {line.strip()[:80]!r}")
    return found
