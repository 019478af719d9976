"""What a prediction is asked for, checked before a model is loaded."""

from collections.abc import Sequence
from pathlib import Path

from fieldguide.commands.judging.inputs import Image
from fieldguide.deploy.answers import problem_with_threshold
from fieldguide.deploy.parquet import is_parquet
from fieldguide.deploy.rows import FORMATS, STDOUT, is_zip, stem
from fieldguide.errors import UsageError, counted, listing
from fieldguide.recipe.overrides import Overrides, apply, listed
from fieldguide.storage import problem_with_output_file

RAISED = "data.max_megapixels"


def demand_options(output: Path, top: int, format: str, unsure_below: float | None, spreadsheet_safe: bool) -> None:
    """Raises UsageError with everything that does not go together."""
    problems = []
    if format not in FORMATS:
        problems.append(f"--format {format}: must be csv or submission")
    if top < 1:
        problems.append(f"--top {top}: must be 1 or more")
    if format == "submission" and top > 1:
        problems.append("--top: a submission has one label per photo; leave --top out or choose --format csv")
    if unsure_below is not None and (problem := problem_with_threshold(unsure_below)):
        problems.append(f"--unsure-below {unsure_below}: {problem}")
    if unsure_below is not None and format == "submission":
        no_status = "--format submission has no status column; leave one of them out, or choose --format csv"
        problems.append(f"--unsure-below: {no_status}")
    if spreadsheet_safe and format == "submission":
        problems.append(
            "--spreadsheet-safe: changes names, and --format submission needs exact ones; leave one of them out, "
            "or choose --format csv"
        )
    if str(output) == STDOUT and format != "csv":
        problems.append("-o -: standard output takes CSV only; give a file for --format submission")
    if is_zip(output) and format != "submission":
        problems.append(f"-o {output}: a .zip needs --format submission; give a .csv")
    if is_parquet(output) and format == "submission":
        problems.append(f"-o {output}: a submission is a .csv or a .zip; leave --format out for Parquet")
    if is_parquet(output) and spreadsheet_safe:
        problems.append("--spreadsheet-safe: is for a CSV, which spreadsheets open; leave it out for Parquet")
    if str(output) != STDOUT and (problem := problem_with_output_file(output)):
        problems.append(f"-o {output}: {problem}")
    if problems:
        raise UsageError(*problems)


def demand_different_rows(inputs: Sequence[tuple[str, Image]], format: str) -> None:
    """Raises UsageError that names both photos of each two rows with the same name."""
    first: dict[str, Image] = {}
    doubles = []
    for name, path in inputs:
        written = stem(name) if format == "submission" else name
        if written in first:
            doubles.append(f"{_called(first[written])} and {_called(path)} are both {written}")
        first.setdefault(written, path)
    if not doubles:
        return
    same = f"{counted(len(doubles), 'row')} would repeat the name of another row:\n{listing(doubles)}\n"
    if format == "submission":
        raise UsageError(
            f"a submission names photos without folder and ending, so {same}Give each photo once, and rename "
            "different photos that share a name"
        )
    raise UsageError(
        f"{same}Give each photo once. If folders hold photos of the same name, give the folder above them, "
        "or predict each folder into its own file"
    )


def _called(image: Image) -> str:
    return str(image) if isinstance(image, str | Path) else "a photo without a path"


def most_megapixels(overrides: Overrides) -> float | None:
    """The bound that `--set data.max_megapixels` raises; None if it is not given.

    Raises:
        UsageError: another field, or a value out of its limits.
    """
    tree: dict[str, object] = {}
    problems = [problem for override in listed(overrides) for problem in apply(tree, override)]
    data = tree.get("data", {})
    if not problems and (set(tree) - {"data"} or not isinstance(data, dict) or set(data) - {"max_megapixels"}):
        problems.append(f"--set: a prediction takes {RAISED} alone; the model keeps the rest of its recipe")
    if not problems and tree:
        value = data["max_megapixels"] if isinstance(data, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 2_000:
            problems.append(f"{RAISED}: must be above 0 and at most 2,000, not {value}")
        else:
            return float(value)
    if problems:
        raise UsageError(*problems)
    return None
