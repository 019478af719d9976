"""A file with a table -> its columns as text. Only this and `deploy/parquet.py` know polars."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldguide.data.table.coco import is_coco, rows_of_coco
from fieldguide.data.table.parquet import columns_of_parquet
from fieldguide.data.table.text import SEPARATORS, SPACE, decoded, listed, separator_of
from fieldguide.errors import UsageError, counted

if TYPE_CHECKING:
    import polars

PARQUET = (".parquet", ".pq")
JSON = (".json", ".jsonl", ".ndjson")
TEXT = (".csv", ".tsv", ".tab", ".txt", ".lst", ".list")
ENDINGS = (*TEXT, *JSON, *PARQUET)
MOST_BYTES = 2**31
Column = Sequence[str]


@dataclass(frozen=True)
class Table:
    """Columns of text by name; an empty text is a value that is not there.

    `has_heading` is None where the first row may be one or not: then it is still a row, and the columns are called 1,
    2, 3. `first` counts the rows and lines before the first row, `source` is the text whose lines are counted.
    """

    name: str
    columns: dict[str, Column]
    has_heading: bool | None
    remarks: tuple[str, ...] = ()
    source: str | None = field(default=None, repr=False)
    separator: str = ","
    first: int = 0

    @property
    def height(self) -> int:
        """How many rows."""
        return len(next(iter(self.columns.values()), ()))

    def where(self, row: int) -> str:
        """A row, counted from 0, as people find it: `line 12` of a text, else `row 12`."""
        if self.source is None:
            return f"row {row + 1}"
        if self.separator == SPACE or '"' not in self.source:
            return f"line {row + self.first + 1}"
        heading = bool(self.has_heading)
        record, begins = row + heading, self._begins
        begin = begins[record] if record < len(begins) else record  # a quotation mark inside a name
        return f"line {begin + self.first - heading + 1}"

    @cached_property
    def _begins(self) -> list[int]:
        """The line that each record begins in, from 0; a quoted text may have several lines."""
        reader = csv.reader(io.StringIO(self.source), delimiter=self.separator)
        found = [0]
        with contextlib.suppress(csv.Error):
            found += (reader.line_num for _ in reader)
        return found

    def with_heading(self) -> "Table":
        """The same, with the first row as names of the columns."""
        names = _names([column[0] for column in self.columns.values()], self.name)
        columns = {name: column[1:] for name, column in zip(names, self.columns.values(), strict=True)}
        return Table(self.name, columns, True, self.remarks, self.source, self.separator, self.first + 1)

    def without_heading(self) -> "Table":
        """The same, where the first row is a row."""
        return Table(self.name, self.columns, False, self.remarks, self.source, self.separator, self.first)


def looks_like_table(path: Path) -> bool:
    """Whether a file's name ends as a table's does."""
    return path.suffix.lower() in ENDINGS


def read_table(path: Path, is_heading: Callable[[Sequence[str]], bool], name: str = "") -> Table:
    """Reads CSV, TSV, lists, Parquet, JSON lines, JSON and COCO Camera Traps.

    `is_heading` knows the words of a heading; `name` is how messages call the file. Raises UsageError if it cannot be
    read, with the line that is damaged.
    """
    name = name or str(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{name}: has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are read")
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{name}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror or error})") from None
    if content.startswith(b"PAR1") or path.suffix.lower() in PARQUET:
        return Table(name, dict(columns_of_parquet(path, name)), True)
    if content.startswith(b"PK\3\4"):
        raise UsageError(f"{name}: is an Excel workbook or a zip; save the table as CSV, or give a .zip of photos")
    text, remark = decoded(content, name)
    remarks = (remark,) if remark else ()
    start = text[:1_000].lstrip()[:1]
    if path.suffix.lower() in JSON or start in ("{", "["):
        return _from_json(text, name, remarks)
    return _from_text(text, name, remarks, is_heading)


def parquet_in_this_process(path: str) -> int:
    """Prints the columns of a Parquet file as JSON, or the problem; 0."""
    import polars

    try:
        answer: dict[str, Any] = {"columns": _as_text(polars.read_parquet(path), "it")}
    except (Exception, polars.exceptions.PanicException) as error:  # polars raises kinds of its own
        answer = {"problem": _first_line(error)}
    json.dump(answer, sys.stdout)
    return 0


def _from_json(text: str, name: str, remarks: tuple[str, ...]) -> Table:
    """One object per line; else one list of objects, or a COCO file."""
    import polars

    lines = [line for line in text.split("\n") if line.strip()]
    try:
        if len(lines) > 1 and all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines):
            frame = polars.read_ndjson(io.BytesIO("\n".join(lines).encode()), infer_schema_length=None)
            return Table(name, _as_text(frame, name), True, remarks)
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: cannot be read as JSON ({_first_line(error)})") from None
    except (Exception, polars.exceptions.PanicException) as error:  # polars raises kinds of its own
        raise UsageError(f"{name}: cannot be read as JSON lines ({_first_line(error)})") from None
    if is_coco(data):
        return Table(name, rows_of_coco(data, name), True, remarks)
    rows = [data] if isinstance(data, dict) else data
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{name}: expected JSON lines, a list of objects, or COCO's images, annotations, categories")
    names = list(dict.fromkeys(str(key) for row in rows for key in row))
    return Table(name, {key: [_plain(row.get(key)) for row in rows] for key in names}, True, remarks)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _from_text(text: str, name: str, remarks: tuple[str, ...], is_heading: Callable[[Sequence[str]], bool]) -> Table:
    told, all_of_it = None, text
    if text[:4].lower() == "sep=":  # Excel's own first line
        told, text = text[4:5], text.partition("\n")[2]
    text = text.lstrip("\n")
    before = all_of_it.count("\n") - text.count("\n")
    if not text.strip():
        raise UsageError(f"{name}: is empty; expected a heading such as file,label and one line per photo")
    separator = told if told in SEPARATORS else separator_of(text, name, is_heading)
    if separator == SPACE:
        pairs = listed(text, name)
        columns: dict[str, Column] = {"1": [path for path, _ in pairs], "2": [label for _, label in pairs]}
    else:
        columns = _as_text(_frame(text, separator, name), name)
        columns = {str(place): column for place, column in enumerate(columns.values(), start=1)}
    made = Table(name, columns, None, remarks, text, separator, before)
    return made.with_heading() if is_heading([column[0] for column in columns.values()]) else made


def _frame(text: str, separator: str, name: str) -> "polars.DataFrame":
    import polars

    content, failed = text.encode("utf-8", "surrogatepass"), None
    for quote in ('"', None):  # a quotation mark inside a name is none of a column
        if quote is None and '"' not in text:
            break
        try:
            return polars.read_csv(
                io.BytesIO(content),
                has_header=False,
                separator=separator,
                quote_char=quote,
                infer_schema_length=0,  # all text: 007 and NA stay
                encoding="utf8-lossy",
            )
        except (Exception, polars.exceptions.PanicException) as error:  # polars raises kinds of its own
            failed = error
    raise UsageError(_what_is_wrong(text, separator, name) or f"{name}: cannot be read ({_first_line(failed)})")


def _what_is_wrong(text: str, separator: str, name: str) -> str | None:
    """The first line with more columns than the first."""
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    width, begin = 0, 0
    try:
        for row in reader:
            width = width or len(row)
            if len(row) > width:
                expected = f"expected {counted(width, 'column')} as in the first line, got {len(row)}"
                return f"{name}: line {begin + 1}: {expected}: {separator.join(row)[:80]!r}"
            begin = reader.line_num
    except csv.Error as error:
        return f"{name}: line {begin + 1}: is damaged ({error})"
    return None


def _as_text(frame: "polars.DataFrame", name: str) -> dict[str, Column]:
    """Every column as text without spaces around it; a column that has no text, such as bytes, is left out."""
    import polars

    found: dict[str, Column] = {}
    for place, title in enumerate(_names(frame.columns, name)):
        column = frame.to_series(place)
        if column.dtype.is_nested() or column.dtype == polars.Binary:
            continue
        text = column.cast(polars.String).fill_null("").str.strip_chars()
        quoted = text.str.starts_with('"') & text.str.ends_with('"') & (text.str.len_bytes() > 1)
        if quoted.any():
            inner = text.str.slice(1, text.str.len_chars() - 2).str.replace_all('""', '"', literal=True)
            text = text.zip_with(~quoted, inner)
        found[title] = text.to_list()
    if not found or not len(next(iter(found.values()))):
        raise UsageError(f"{name}: has no rows of text; expected columns such as file and label")
    return found


def _names(names: Sequence[str], name: str) -> list[str]:
    """Names of columns; one without a name gets its number."""
    made = [title.strip() or str(place) for place, title in enumerate(names, start=1)]
    if twice := next((title for title in made if made.count(title) > 1), None):
        raise UsageError(f"{name}: two columns are called {twice}; rename one of them")
    return made


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
