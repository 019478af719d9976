"""How long a table of labels takes, beside polars reading the same file: `python benchmarks/table.py --rows 1000000`.

Each measurement is a process of its own, so that its memory is its own too.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLASSES, SITES = 500, 2_000


def write(path: Path, rows: int) -> None:
    """A camera trap's table: file, species, site."""
    with path.open("w", encoding="utf-8") as file:
        file.write("file,species,site\n")
        for row in range(rows):
            file.write(f"{_name(row)},species {row % CLASSES},site {row % SITES}\n")


def _name(row: int) -> str:
    return f"site_{row % SITES:04d}/2024/IMG_{row:07d}.JPG"


def by_polars(path: Path, rows: int) -> int:
    import polars

    return len(polars.read_csv(path, infer_schema_length=0).rows())


def by_fieldguide(path: Path, rows: int) -> int:
    """Reads it, finds the columns, and finds each photo among as many files."""
    from fieldguide.data.look.listed import matched, rows_of
    from fieldguide.data.table.match import Names

    files = [_name(row) for row in range(rows)]
    began = time.perf_counter()
    names = Names(files)
    read = rows_of(path, None, names)
    print(f"  read in {time.perf_counter() - began:.2f} s", file=sys.stderr)
    return len(matched(read, names, files).first)


HOW = {"polars": by_polars, "fieldguide": by_fieldguide}


def measure(how: str, path: Path, rows: int) -> dict[str, float]:
    """Seconds and GB of another process."""
    asked = [sys.executable, __file__, "--rows", str(rows), "--measure", how, "--file", str(path)]
    return json.loads(subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=HOW)
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    if options.measure:
        began = time.perf_counter()
        assert HOW[options.measure](options.file, options.rows) == options.rows
        seconds = time.perf_counter() - began
        gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"seconds": seconds, "gb": gb}))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.csv")
        write(path, options.rows)
        print(f"{options.rows:,} rows, {path.stat().st_size / 1e6:.0f} MB; seconds and GB of memory, side by side")
        for turn in range(options.repeats):
            found = {how: measure(how, path, options.rows) for how in HOW}
            told = ", ".join(f"{how} {each['seconds']:.2f} s {each['gb']:.2f} GB" for how, each in found.items())
            ratio = found["fieldguide"]["seconds"] / found["polars"]["seconds"]
            print(f"turn {turn + 1}: {told}; ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
