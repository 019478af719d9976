"""`fieldguide predict`: photos to a CSV, one row per photo, also for one that cannot be read."""

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
from fieldguide.data.look.files import images_below, relative_name
from fieldguide.data.read.formats import missing_decoders
from fieldguide.deploy.answers import Answering, Prediction, clipped_sentence, problem_with_threshold
from fieldguide.deploy.rows import FORMATS, Written, is_zip, stem, write_rows
from fieldguide.deploy.serving import AUTO
from fieldguide.errors import UsageError, counted, listing
from fieldguide.storage import no_formula, printable, problem_with_output_file
from fieldguide.world import Device


@dataclass(frozen=True)
class Predicted:
    """What was written.

    Attributes:
        output: the file.
        images: rows in it.
        failed: names and reasons of the photos that could not be read.
        unsure: rows with less confidence than `unsure_below`.
        engine: which engine computed them, such as `openvino in bf16`.
        images_per_second: from opening the first file to writing the last row, without loading the model.
        decoded_smaller: how many large JPEGs were decoded at reduced size.
        broken_rules: the rules that the ensemble breaks, as sentences; only with `allow_broken_rules`.
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
    device: Device = "auto",
    engine: str = AUTO,
    allow_broken_rules: bool = False,
    quiet: bool = False,
) -> Predicted:
    """Writes a prediction for each photo.

    Args:
        run: a run or a bundle; or several with the same classes, whose calibrated probabilities are averaged.
        images: files and folders; in a folder, the files with an image ending at any depth, sorted.
        output: a CSV; with `format` submission also a .zip that holds `prediction.csv`.
        top: classes listed per photo, with their confidences.
        format: `csv` (`image,label,confidence,status`) or `submission` (`image_name,pred_label`).
        unsure_below: in (0, 1]; the status of a less confident row is `unsure`.
        spreadsheet_safe: put a `'` before names of photos and classes that look like formulas.
        device: `auto`, `cpu`, `cuda:N` or a `torch.device`.
        engine: `auto` (the default here: the fastest for so many photos, checked against plain), `plain` (the default
            of `fieldguide.load`: fp32, photos decoded at full size, as in training's validation), `folded`,
            `compiled` or `openvino`. With another engine than plain, large JPEGs are decoded at reduced size.
        allow_broken_rules: continue if the ensemble breaks a run's rule, and say so.
        quiet: show nothing; the logger `fieldguide` gets the messages.

    Raises:
        UsageError: wrong paths or options; an `output` that is a photo or a file of a run; two rows with one name; an
            ensemble whose classes differ or that breaks a rule.
        Interrupted: a signal (SIGINT, SIGTERM, SIGHUP) came; nothing was written.
    """
    screen, target = Screen(quiet=quiet), Path(output)
    _demand_options(target, top, format, unsure_below, spreadsheet_safe)
    inputs = gather(images)
    demand_free_outputs({"-o": target}, (path for _, path in inputs.photos))
    _demand_different_rows(inputs.photos, format)
    loaded = load_runs(run, device, engine, draft=True, allow_broken_rules=allow_broken_rules)
    _demand_fit(loaded, top, unsure_below, screen)
    _announce(inputs, loaded, screen)
    return _write(inputs.photos, loaded, target, format, top, unsure_below, spreadsheet_safe, screen)


def _announce(inputs: "Inputs", loaded: Loaded, screen: Screen) -> None:
    for remark in (*inputs.remarks, *missing_decoders(path for _, path in inputs.photos)):
        screen.warn(remark)
    skipped = f" ({counted(inputs.others, 'other file')} skipped)" if inputs.others else ""
    together = f" with the mean of {len(loaded.paths)} runs" if len(loaded.paths) > 1 else ""
    screen.say(f"predicting {counted(len(inputs.photos), 'photo')}{together}{skipped}")


def _write(
    inputs: Sequence[tuple[str, Path]],
    loaded: Loaded,
    target: Path,
    format: str,
    top: int,
    unsure_below: float | None,
    spreadsheet_safe: bool,
    screen: Screen,
) -> Predicted:
    predictor, began = loaded.predictor, time.perf_counter()
    paths, at_once = [path for _, path in inputs], predictor.engine_batch_size
    with screen.counting("predicting", len(inputs)) as advance, ending_at_once(f"{target} was not written"):
        predictions = predictor.stream(paths, top=top, unsure_below=unsure_below, batch_size=at_once)
        rows = _with_names(inputs, predictions, advance)
        found = write_rows(target, rows, format, top, no_formula if spreadsheet_safe else str)
    speed = len(inputs) / max(time.perf_counter() - began, 1e-9)
    _warn(found, predictor, screen)
    unsure = "" if unsure_below is None else f", {found.unsure:,} of them unsure (confidence below {unsure_below:g})"
    screen.say(f"{counted(len(inputs), 'row')} in {target}{unsure}{_served(predictor, speed)}")
    by, smaller = predictor.served_by, predictor.decoded_smaller
    return Predicted(target, len(inputs), tuple(found.failed), found.unsure, by, speed, smaller, loaded.broken_rules)


def _demand_fit(loaded: Loaded, top: int, unsure_below: float | None, screen: Screen) -> None:
    """Warns of what the model cannot do; raises UsageError if `top` is more than there are classes."""
    for sentence in loaded.sentences():
        screen.warn(sentence)
    if top > len(loaded.predictor.classes):
        raise UsageError(f"--top {top}: the model knows {len(loaded.predictor.classes)} classes")
    if unsure_below is not None and not loaded.predictor.is_calibrated:
        names = ", ".join(map(str, loaded.paths))
        screen.warn(f"{names}: not calibrated; confidences may be too high")


def _warn(found: Written, predictor: Answering, screen: Screen) -> None:
    """Warns of engines that failed and photos that could not be read."""
    for remark in predictor.remarks:
        screen.warn(remark)
    if predictor.clipped:
        screen.warn(clipped_sentence(predictor.clipped))
    if found.failed:
        lines = [f"{name} {reason}" for name, reason in found.failed]
        screen.warn(f"{counted(len(lines), 'photo')} could not be read; see the status column:\n{listing(lines)}")


def _served(predictor: Answering, images_per_second: float) -> str:
    """Speed and engine, and how many photos were decoded at reduced size."""
    speed = f"{images_per_second:,.0f}" if images_per_second >= 9.5 else f"{images_per_second:.2g}"
    decoded = ""
    if smaller := predictor.decoded_smaller:
        decoded = f"; {counted(smaller, 'large JPEG')} decoded at reduced size (engine plain uses full size)"
    return f"; {speed} images/s by {predictor.served_by}{decoded}" if predictor.served_by else ""


class Inputs(NamedTuple):
    """What is to be predicted: photos with the names of their rows, in a stable order, and how many other files."""

    photos: list[tuple[str, Path]]
    others: int
    remarks: list[str]


def gather(images: str | Path | Sequence[str | Path]) -> Inputs:
    """Finds all photos; raises UsageError if there are none, or that names each path that does not exist."""
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
            remarks = [*found.remarks, *(remark.sentence for remark in below.remarks(given))]
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
    """Bytes that are not UTF-8 are written as `\\xNN`, which may be the name of another file."""
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
    if is_zip(output) and format != "submission":
        problems.append(f"-o {output}: a .zip needs --format submission; give a .csv")
    if problem := problem_with_output_file(output):
        problems.append(f"-o {output}: {problem}")
    if problems:
        raise UsageError(*problems)


def _demand_different_rows(inputs: Sequence[tuple[str, Path]], format: str) -> None:
    """Raises UsageError that names both photos of each two rows with the same name."""
    first: dict[str, Path] = {}
    doubles = []
    for name, path in inputs:
        written = stem(name) if format == "submission" else name
        if written in first:
            doubles.append(f"{first[written]} and {path} are both {written}")
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


def _with_names(
    inputs: Sequence[tuple[str, Path]], predictions: Iterable[Prediction], advance: Callable[[int], None]
) -> Iterator[tuple[str, Prediction]]:
    for (name, _), prediction in zip(inputs, predictions, strict=True):
        advance(1)
        yield name, prediction
