import csv
import io

import polars

from fieldguide.deploy import parquet
from fieldguide.deploy.rows import write_rows
from fieldguide.storage import csv_line

HEADING = ("image", "label", "confidence", "status", "label_2", "confidence_2")
ROWS = [
    ("a.jpg", "cat", "0.999084", "ok", "dog", "0.000375"),
    ('odd, "name"\nof two lines.jpg', "10", "0.300000", "unsure", "2", "0.250000"),
    ("carriage\rreturn.jpg", "NA", "1.000000", "ok", "null", "0.000000"),
    ("b.jpg", "", "", "failed: is empty", "", ""),
    ("nan.jpg", "nan", "0.500000", "ok", "2", "0.500000"),
]


def test_parquet_has_the_columns_and_values_of_the_csv_typed(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 2)
    lines = [csv_line(row) for row in (HEADING, *ROWS)]
    write_rows(tmp_path / "p.PARQUET", lines)
    write_rows(tmp_path / "p.csv", lines)
    found = polars.read_parquet(tmp_path / "p.PARQUET")
    texts = list(csv.DictReader(io.StringIO((tmp_path / "p.csv").read_bytes().decode(), newline="")))
    assert list(found.columns) == list(HEADING) and len(texts) == len(ROWS)
    kinds = [polars.String, polars.String, polars.Float64, polars.String, polars.String, polars.Float64]
    assert found.dtypes == kinds
    for row, text in zip(found.iter_rows(named=True), texts, strict=True):
        for name, value in row.items():
            written = "" if value is None else f"{value:.6f}" if isinstance(value, float) else value
            assert written == text[name]
    assert found["label"][3] is None and found["confidence"][3] is None and found["label"][2] == "NA"


def test_no_photo_leaves_the_columns(tmp_path):
    write_rows(tmp_path / "p.parquet", [csv_line(HEADING)])
    assert polars.read_parquet(tmp_path / "p.parquet").schema["confidence_2"] == polars.Float64
