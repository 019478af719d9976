"""Parquet -> columns of text, in a process of its own: a damaged file can end polars' whole process."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fieldguide.errors import UsageError

MOST_SECONDS = 600


def columns_of_parquet(path: Path, name: str) -> dict[str, list[str]]:
    """The columns that have a text; raises UsageError if the file is damaged, or has none."""
    code = "import sys; from fieldguide.data.table import read; sys.exit(read.parquet_in_this_process(sys.argv[1]))"
    program = [sys.executable, "-c", code, str(path)]
    try:
        done = subprocess.run(program, capture_output=True, timeout=MOST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UsageError(f"{name}: cannot be read as Parquet in {MOST_SECONDS} s") from None
    answer: dict[str, Any] = {"problem": "it is damaged"}
    with contextlib.suppress(ValueError):
        answer = json.loads(done.stdout) if done.returncode == 0 else answer
    if "problem" in answer:
        raise UsageError(f"{name}: cannot be read as Parquet ({answer['problem']})")
    return dict(answer["columns"])
