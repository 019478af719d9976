"""`fieldguide predict`: photos to a CSV, one row an input, whatever happens to it."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fieldguide.commands.judging.models import Loaded, Runs, load_runs
from fieldguide.commands.terminal.interrupts import ending_at_once
from fieldguide.commands.terminal.outputs import demand_free_outputs
from fieldguide.commands.terminal.screen import Screen
from fieldguide.data.look.files import about_hidden, images_below, relative_name
from fieldguide.deploy.answers import Answering, Prediction, problem_with_threshold
from fieldguide.deploy.rows import FORMATS, Written, is_zip, stem, write_rows
from fieldguide.deploy.serving import AUTO
from fieldguide.errors import UsageError, counted, listing
from fieldguide.storage import no_formula, printable, problem_with_output_file


@dataclass(frozen=True)
class Predicted:
    """What was written.

    Attributes:
        output: the file.
        images: rows in it.
        failed: names and reasons of the photos that could not be read.
        unsure: rows with less confidence than was asked for.
        engine: which engine computed them, such as `openvino in bf16`.
        images_per_second: from the first file's opening to the last row, without loading the model.
        decoded_smaller: how many large JPEGs were decoded at reduced size.
        broken_rules: the rules that several runs together break, as sentences; only with `allow_broken_rules`.
    """

    output: Path
    images: int
    failed: tuple[tuple[str, str], ...]
    unsure: int = 0
    engine: str = ""
    images_per_second: float = 0.0
    decoded_smaller: int = 0
    broken_rules: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or 3 where photos could not be read."""
        return 3 if self.failed else 0


def predict(
    run: Runs,
    images: str | Path | Sequence[str | Path],
    output: str | Path = "prediction.csv",
    *,
    top: int = 1,
    format: str = "csv",
    unsure_below: float | None = None,
    spreadsheet_safe: bool = False,
    device: str = "auto",
    engine: str = AUTO,
    allow_broken_rules: bool = False,
    quiet: bool = False,
) -> Predicted:
    """Writes a prediction for each photo.

    Args:
        run: a run or a bundle; or several of the same classes, whose calibrated probabilities are averaged.
        images: files and folders; in a folder, the files with an image ending at any depth, sorted.
        output: a CSV; with `format` submission also a .zip that holds `prediction.csv`.
        top: how many classes a row holds, with their confidences.
        format: `csv` (`image,label,confidence,status`) or `submission` (`image_name,pred_label`).
        unsure_below: in (0, 1]; a row with less confidence keeps it and its label, and its status is `unsure`.
        spreadsheet_safe: put a `'` before names of photos and classes that a spreadsheet takes for formulas.
        device: `auto`, `cpu` or `cuda:N`.
        engine: `auto` (the fastest for so many photos here, held against the plain one), `plain` (fp32, each photo
            decoded at its own size, as when the run was judged), `folded`, `compiled` or `openvino`. Where another
            than plain may serve, large JPEGs are decoded at reduced size.
        allow_broken_rules: go on where several runs together break a rule of one of them, and say so.
        quiet: show nothing.

    Returns:
        How many rows were written, and what could not be read.

    Raises:
        UsageError: wrong paths or options; an `output` that is a photo or a file of a run; two rows of one name; of
            several runs, classes that differ, or a broken rule.
        Interrupted: a signal (SIGINT, SIGTERM, SIGHUP) came; nothing was written.
    """
    screen, target = Screen(quiet=quiet), Path(output)
    _demand_options(target, top, format, unsure_below, spreadsheet_safe)
    inputs, others, remarks = gather(images)
    demand_free_outputs({"-o": target}, (path for _, path in inputs))
    _demand_different_rows(inputs, format)
    loaded = load_runs(run, device, engine, draft=True, allow_broken_rules=allow_broken_rules)
    predictor = loaded.predictor
    _demand_fit(loaded, top, unsure_below, screen)
    for remark in remarks:
        screen.warn(remark)
    passed_over = f" ({others:,} other files passed over)" if others else ""
    together = f" by the mean of {len(loaded.paths)} runs" if len(loaded.paths) > 1 else ""
    screen.say(f"predicting {counted(len(inputs), 'photo')}{together}{passed_over}")
    began = time.perf_counter()
    nothing = f"{target} was not written"
    with screen.counting("predicting", len(inputs)) as advance, ending_at_once(nothing):
        predictions = predictor.stream(
            [path for _, path in inputs], top=top, unsure_below=unsure_below, batch_size=predictor.engine_batch_size
        )
        rows = _with_names(inputs, predictions, advance)
        found = write_rows(target, rows, format, top, no_formula if spreadsheet_safe else str)
    speed = len(inputs) / max(time.perf_counter() - began, 1e-9)
    _warn(found, predictor, screen)
    unsure = "" if unsure_below is None else f", {found.unsure:,} of them unsure (confidence below {unsure_below:g})"
    screen.say(f"{counted(len(inputs), 'row')} in {target}{unsure}{_served(predictor, speed)}")
    return Predicted(
        target,
        len(inputs),
        tuple(found.failed),
        found.unsure,
        predictor.served_by,
        speed,
        predictor.decoded_smaller,
        loaded.broken_rules,
    )


def _demand_fit(loaded: Loaded, top: int, unsure_below: float | None, screen: Screen) -> None:
    """Holds what was asked for against the model, and says what must be known of it.

    Raises:
        UsageError: more classes are asked for than there are.
    """
    for sentence in loaded.sentences():
        screen.warn(sentence)
    if top > len(loaded.predictor.classes):
        raise UsageError(f"--top {top}: the model knows {len(loaded.predictor.classes)} classes")
    if unsure_below is not None and not loaded.predictor.is_calibrated:
        names = ", ".join(map(str, loaded.paths))
        screen.warn(f"{names}: holds no temperature, so its confidences may be surer than they are right")


def _warn(found: Written, predictor: Answering, screen: Screen) -> None:
    """What must be known of the rows: engines that were left, and photos that could not be read."""
    for remark in predictor.remarks:
        screen.warn(remark)
    if found.failed:
        lines = [f"{name} {reason}" for name, reason in found.failed]
        screen.warn(f"{counted(len(lines), 'photo')} could not be read; the rows say why:\n{listing(lines)}")


def _served(predictor: Answering, images_per_second: float) -> str:
    """How fast, by what, and what else than the plain way was gone."""
    speed = f"{images_per_second:,.0f}" if images_per_second >= 9.5 else f"{images_per_second:.2g}"
    smaller = predictor.decoded_smaller
    decoded = f"; {counted(smaller, 'large JPEG')} decoded at reduced size (--engine plain does not)" if smaller else ""
    return f"; {speed} images/s by {predictor.served_by}{decoded}" if predictor.served_by else ""


class Inputs(NamedTuple):
    """What is to be predicted.

    Attributes:
        photos: with the names their rows will have, in a stable order.
        others: how many other files there are in the folders.
        remarks: sentences about folders that were passed over.
    """

    photos: list[tuple[str, Path]]
    others: int
    remarks: list[str]


def gather(images: str | Path | Sequence[str | Path]) -> Inputs:
    """All inputs.

    Raises:
        UsageError: nothing to predict, or paths that do not exist, all of them named.
    """
    if isinstance(images, str | Path):
        images = [images]
    missing = [problem for path in images if (problem := _problem_with_input(Path(path)))]
    if missing:
        raise UsageError(*missing)
    found = Inputs([], 0, [])
    for given in map(Path, images):
        if given.is_dir():
            below = images_below(given)
            named = [(relative_name(path, given), path) for path in below.images]
            _demand_different_names(given, [name for name, _ in named])
            remarks = [*found.remarks, *(remark.sentence for remark in about_hidden(below.hidden, given))]
            found = Inputs([*found.photos, *named], found.others + below.others, remarks)
        else:
            found.photos.append((printable(str(given)), given))
    if not found.photos:
        nothing = f"no photos in {', '.join(map(str, images))} ({found.others:,} files without an image ending)"
        raise UsageError(nothing, *found.remarks)
    return found


def _problem_with_input(path: Path) -> str | None:
    try:
        return None if path.exists() else f"{path}: there is no such file or folder"
    except OSError as error:  # a name that is too long, a folder that cannot be entered
        return f"{path}: cannot be read ({error.strerror})"


def _demand_different_names(folder: Path, names: Sequence[str]) -> None:
    """Bytes that are no UTF-8 are written as `\\xNN`, which may be another file's very name."""
    if len(set(names)) < len(names):
        same = next(name for name, count in Counter(names).items() if count > 1)
        raise UsageError(f"{folder}: two files would both be written as {same}; rename one of them")


def _demand_options(output: Path, top: int, format: str, unsure_below: float | None, spreadsheet_safe: bool) -> None:
    problems = []
    if format not in FORMATS:
        problems.append(f"--format {format}: must be csv or submission")
    if top < 1:
        problems.append(f"--top {top}: must be 1 or more")
    if format == "submission" and top > 1:
        problems.append("--top: a submission has one label an image; leave --top out or choose --format csv")
    if unsure_below is not None and (problem := problem_with_threshold(unsure_below)):
        problems.append(f"--unsure-below {unsure_below}: {problem}")
    if unsure_below is not None and format == "submission":
        problems.append(
            "--unsure-below: --format submission has no status to say it in; leave one of them out, "
            "or choose --format csv"
        )
    if spreadsheet_safe and format == "submission":
        problems.append(
            "--spreadsheet-safe: changes names, and --format submission holds exact ones; leave one of them out, "
            "or choose --format csv"
        )
    if is_zip(output) and format != "submission":
        problems.append(f"-o {output}: a .zip is for --format submission; give a .csv")
    if problem := problem_with_output_file(output):
        problems.append(f"-o {output}: {problem}")
    if problems:
        raise UsageError(*problems)


def _demand_different_rows(inputs: Sequence[tuple[str, Path]], format: str) -> None:
    """Holds the names of all rows against each other, over all inputs.

    Raises:
        UsageError: some stand twice; both photos are named.
    """
    first: dict[str, Path] = {}
    doubles = []
    for name, path in inputs:
        written = stem(name) if format == "submission" else name
        if written in first:
            doubles.append(f"{first[written]} and {path} are both {written}")
        first.setdefault(written, path)
    if not doubles:
        return
    count, named = counted(len(doubles), "row"), listing(doubles)
    if format == "submission":
        raise UsageError(
            f"a submission names images without folder and ending, and {count} would have a name that stands there "
            f"already:\n{named}\nGive each image once, and rename those that are two"
        )
    raise UsageError(
        f"{count} would have a name that stands there already:\n{named}\n"
        "Give each photo once; for folders with photos of the same names, give the folder that they lie in, or predict "
        "one after the other with an -o each"
    )


def _with_names(
    inputs: Sequence[tuple[str, Path]], predictions: Iterable[Prediction], advance: Callable[[int], None]
) -> Iterator[tuple[str, Prediction]]:
    for (name, _), prediction in zip(inputs, predictions, strict=True):
        advance(1)
        yield name, prediction
