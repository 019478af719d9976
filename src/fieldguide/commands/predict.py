"""`fieldguide predict`: photos to a CSV or Parquet, one row per photo, also for one that cannot be read."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldguide.cluster.jobs import Share
from fieldguide.commands.judging.inputs import Image, Inputs, gather
from fieldguide.commands.judging.models import Loaded, Runs, identity_of, load_runs
from fieldguide.commands.judging.predicted import Predicted as Predicted
from fieldguide.commands.judging.prediction_options import demand_different_rows, demand_options, most_megapixels
from fieldguide.commands.terminal.interrupts import ending_at_once
from fieldguide.commands.terminal.outputs import demand_free_outputs
from fieldguide.commands.terminal.screen import Screen, warn_of_hidden_gpu
from fieldguide.data.read.formats import missing_decoders
from fieldguide.data.read.member import stands_for_photo
from fieldguide.deploy.answers import Answering, Status, sentences_on_values
from fieldguide.deploy.names import AS_TRAINED, AUTO
from fieldguide.deploy.rows import STDOUT, heading, row_of, write_rows
from fieldguide.deploy.sorting import How, problem_with_sorting, sort_into
from fieldguide.deploy.unfinished import Rest, Unfinished, about_prediction, in_batches, stamp_of
from fieldguide.errors import UsageError, counted, listing
from fieldguide.model.description import find_bundle, read_description
from fieldguide.recipe.overrides import Overrides
from fieldguide.storage import is_written_through, no_formula
from fieldguide.world import Device


def predict(
    run: Runs,
    images: Image | Sequence[Image],
    output: str | Path = "prediction.csv",
    *,
    top: int = 1,
    format: str = "csv",
    unsure_below: float | None = None,
    spreadsheet_safe: bool = False,
    device: Device = "auto",
    engine: str = AUTO,
    flips: str = AS_TRAINED,
    allow_broken_rules: bool = False,
    allow_int8: bool = False,
    resume: bool = False,
    sort_into: str | Path | None = None,
    links: bool = False,
    overrides: Overrides = (),
    on: str | None = None,
    cpus_per_actor: float = 1,
    gpus_per_actor: float | None = None,
    quiet: bool = False,
) -> Predicted:
    """Writes a prediction for each photo.

    Args:
        run: a run, a bundle or an export; or several runs with the same classes, whose calibrated probabilities are
            averaged.
        images: files; folders and archives (.zip, .tar), of which all photos at any depth are taken, sorted; lists of
            photos (.txt, or a table with a column `file`); patterns such as `photos/**/*.jpg`; `-` for a list on
            standard input; in Python also bytes and open files.
        output: a CSV, a .parquet with its columns, typed, or `-` for standard output; with `format` submission also a
            .zip that holds `prediction.csv`.
        top: classes listed per photo, with their confidences.
        format: `csv` (`image,label,confidence,status`) or `submission` (`image_name,pred_label`).
        unsure_below: in (0, 1]; the status of a less confident row is `unsure`.
        spreadsheet_safe: put a `'` before names of photos and classes that look like formulas.
        device: `auto`, `cpu`, `cuda:N`, `mps` or a `torch.device`.
        engine: `auto` (the default here: the fastest for so many photos, checked against plain), `plain` (the default
            of `fieldguide.load`: fp32, photos decoded at full size, as in training's validation), `folded`,
            `compiled`, `openvino`, or `int8` where the run holds a proven export. With another engine than plain,
            large JPEGs are decoded at reduced size.
        flips: `none` leaves out the mirror images that a run may ask for (`data.test_flips`), in half of the time;
            `as-trained` keeps them.
        allow_broken_rules: continue if the ensemble breaks a run's rule, and say so.
        allow_int8: let an export predict by its file in int8. A run that holds a proven one needs no leave.
        resume: go on with a prediction that was interrupted, with the same arguments; it gives the same bytes. If
            photos have changed by size or time, all from the first of them on are predicted again.
        sort_into: folder for copies of the photos, one folder per predicted class, and `unsure` and `failed`.
        links: link the photos there instead of copying them.
        overrides: `data.max_megapixels` alone, to read photos that the model's own bound refuses.
        on: `ray` predicts in many processes, of the cluster at RAY_ADDRESS or of this machine; `output` is then a
            folder of Parquet files, and `images` may be in object storage (`s3://`, `gs://`, `hf://`; docs/cluster.md).
        cpus_per_actor, gpus_per_actor: with `on`, what each process takes. None: a GPU where there is one.
        quiet: show nothing; the logger `fieldguide` gets the messages.

    Raises:
        UsageError: wrong paths or options; an `output` that is a photo or a file of a run; two rows with one name; an
            ensemble whose classes differ or that breaks a rule.
        Interrupted: a signal (SIGINT, SIGTERM, SIGHUP) came; what was done is kept beside `output` for `resume`.
    """
    target = Path(output)
    if on is not None:
        given = {"--format": format != "csv", "--spreadsheet-safe": spreadsheet_safe, "--links": links}
        given["--sort-into"] = sort_into is not None
        if wrong := [name for name, is_given in given.items() if is_given]:
            raise UsageError(f"{', '.join(wrong)}: not with --on, which writes Parquet; leave it out")
        from fieldguide.commands.predict_elsewhere import ShardsAsked, predict_elsewhere

        which = ShardsAsked(on, Share(cpus_per_actor, gpus_per_actor), top, unsure_below, str(device), engine, flips)
        more: Any = {"allow_broken_rules": allow_broken_rules, "resume": resume, "overrides": overrides}
        return predict_elsewhere(run, images, target, which, Screen(quiet=quiet), **more)
    if cpus_per_actor != 1 or gpus_per_actor is not None:
        raise UsageError("--cpus-per-actor, --gpus-per-actor: are for --on; leave them out")
    to_stdout = str(target) == STDOUT
    screen = Screen(quiet=quiet, on_stderr=to_stdout)
    warn_of_hidden_gpu(device, screen)
    demand_options(target, top, format, unsure_below, spreadsheet_safe)
    raised = most_megapixels(overrides)
    folder = None if sort_into is None else Path(sort_into)
    if links and folder is None:
        raise UsageError("--links: is for --sort-into; give a folder, or leave it out")
    if resume and (to_stdout or is_written_through(target)):
        what = "standard output" if to_stdout else f"{target} is a device or a pipe"
        raise UsageError(f"--resume: {what}, beside which nothing can be kept; give a file")
    inputs = gather(images, screen.say)
    if resume and (still := next((name for name, image in inputs.photos if stamp_of(image) == ""), None)) is not None:
        raise UsageError(f"--resume: {still} is an open file, which may have changed; give its path")
    if folder is not None and not resume and (problem := _problem_with_sorting(folder, inputs, links)):
        raise UsageError(f"--sort-into {problem}")
    paths = (path for _, path in inputs.photos if isinstance(path, Path))
    demand_free_outputs({"-o": None if to_stdout else target}, paths, inputs.lists)
    demand_different_rows(inputs.photos, format)
    may: dict[str, bool] = {"allow_broken_rules": allow_broken_rules, "allow_int8": allow_int8}
    loaded = load_runs(run, device, engine, draft=True, flips=flips, photos=len(inputs.photos), **may)
    if raised is not None:
        loaded.predictor.raise_bound(raised)
    _demand_fit(loaded, top, unsure_below, screen)
    _announce(inputs, loaded, screen)
    if flips == "none":
        screen.say(_without_mirrors(loaded))
    options = (top, format, unsure_below, spreadsheet_safe, str(device), engine, flips, raised, allow_int8)
    about = about_prediction(inputs.photos, [identity_of(path) for path in loaded.paths], options)
    asked = _Asked(target, format, top, unsure_below, spreadsheet_safe, resume, folder, links)
    return _write(inputs.photos, loaded, asked, about, screen)


def _problem_with_sorting(folder: Path, inputs: Inputs, links: bool) -> str | None:
    paths = [image for _, image in inputs.photos if isinstance(image, Path)]
    if len(paths) < len(inputs.photos):
        return f"{folder}: only photos that are files can be sorted"
    if links and any(map(stands_for_photo, paths)):
        return f"{folder}: photos in an archive cannot be linked; leave out --links to copy them"
    return problem_with_sorting(folder, inputs.folders)


def _announce(inputs: Inputs, loaded: Loaded, screen: Screen) -> None:
    for remark in (*inputs.remarks, *missing_decoders(name for name, _ in inputs.photos)):
        screen.warn(remark)
    skipped = f" ({counted(inputs.others, 'other file')} skipped)" if inputs.others else ""
    together = f" with the mean of {len(loaded.paths)} runs" if len(loaded.paths) > 1 else ""
    screen.say(f"predicting {counted(len(inputs.photos), 'photo')}{together}{skipped}")


def _without_mirrors(loaded: Loaded) -> str:
    """What leaving out mirror images changes."""
    asked = [read_description(find_bundle(path)).preprocessing.get("flips", "none") for path in loaded.paths]
    if "horizontal" not in asked:
        return "--flips none changes nothing: no mirror images are asked for here"
    return "without mirror images: half the time, but the run was judged and calibrated with them"


@dataclass(frozen=True)
class _Asked:
    """How rows are written, and what becomes of the photos."""

    target: Path
    format: str
    top: int
    unsure_below: float | None
    spreadsheet_safe: bool
    resume: bool
    sort_into: Path | None
    links: bool


def _write(inputs: Sequence[tuple[str, Image]], loaded: Loaded, asked: _Asked, about: str, screen: Screen) -> Predicted:
    """Computes what is missing, then writes everything; what is done stays if a signal comes."""
    predictor, began, target = loaded.predictor, time.perf_counter(), asked.target
    # before they are read: a photo that changes from now on is predicted again by `resume`
    stamps = [stamp_of(image) for _, image in inputs]
    kept = Unfinished(target, about, predictor.engine_batch_size, stamps)
    goes_on = kept.begin(resume=asked.resume)
    if kept.has_changed:
        screen.warn(
            f"photos have changed since they were predicted; all from photo {kept.done + 1:,} on are done again"
        )
    if goes_on:
        screen.say(f"{kept.done:,} of {counted(len(inputs), 'photo')} are done; going on")
        predictor.settle(kept.engines)
    elif asked.resume and not kept.has_changed:
        screen.say("nothing is kept of an interrupted prediction; starting from the first photo")
    before = kept.done
    with ending_at_once(lambda: _what_now(kept, len(inputs))):
        _compute(inputs, predictor, asked, kept, screen)
        speed = (len(inputs) - before) / max(time.perf_counter() - began, 1e-9)
        lines = (row.line for row in kept.rows())
        write_rows(target, itertools.chain([heading(asked.format, asked.top)], lines))
        sorted_ = _sorted(inputs, loaded, asked, kept)
        notable = [row for row in kept.rows() if row.status != Status.OK]
        kept.remove()
    failed = tuple((row.name, row.reason) for row in notable if row.status == Status.FAILED)
    _warn(failed, predictor, screen)
    below, unsure = asked.unsure_below, len(notable) - len(failed)
    where = "the output" if str(target) == STDOUT else target
    told = "" if below is None else f", {unsure:,} of them unsure (confidence below {below:g})"
    screen.say(f"{counted(len(inputs), 'row')} in {where}{told}{_served(predictor, speed)}{sorted_}")
    by, smaller = predictor.served_by, predictor.counted.smaller
    return Predicted(target, len(inputs), failed, unsure, by, speed, smaller, loaded.broken_rules)


def _compute(
    inputs: Sequence[tuple[str, Image]], predictor: Answering, asked: _Asked, kept: Unfinished, screen: Screen
) -> None:
    """Predicts the photos that are not done, a batch after the other."""
    if kept.done >= len(inputs):
        return
    size = predictor.engine_batch_size
    rest, names = Rest([path for _, path in inputs], size, kept.done), [name for name, _ in inputs]
    written = no_formula if asked.spreadsheet_safe else str
    with screen.counting("predicting", len(inputs)) as advance:
        advance(kept.done)
        found = predictor.stream(rest, top=asked.top, unsure_below=asked.unsure_below, batch_size=size)
        new = itertools.islice(found, rest.again, None)
        rows = (
            row_of(name, prediction, asked.format, asked.top, written)
            for name, prediction in zip(names[kept.done :], new, strict=True)
        )
        for batch in in_batches(rows, size):
            kept.add(batch, predictor.engines)
            advance(len(batch))


def _sorted(inputs: Sequence[tuple[str, Image]], loaded: Loaded, asked: _Asked, kept: Unfinished) -> str:
    """Sorts the photos if that is asked for; the end of a sentence."""
    if asked.sort_into is None:
        return ""
    how: How = "link" if asked.links else "copy"
    paths = {name: image for name, image in inputs if isinstance(image, Path)}
    count = sort_into(asked.sort_into, kept.rows(), paths, loaded.predictor.classes, how)
    return f"; {counted(count, 'photo')} {'linked' if asked.links else 'copied'} into {asked.sort_into}"


def _what_now(kept: Unfinished, photos: int) -> str:
    """What a signal leaves, and how to go on."""
    if not kept.done or kept.is_elsewhere:
        kept.remove()
        return "nothing is kept" if kept.done else "nothing was done yet"
    go_on = "fieldguide predict (the same arguments) --resume"
    return f"{kept.done:,} of {counted(photos, 'row')} are kept in {kept.path}; go on with: {go_on}"


def _demand_fit(loaded: Loaded, top: int, unsure_below: float | None, screen: Screen) -> None:
    """Warns of what the model cannot do; raises UsageError if `top` is more than there are classes."""
    for sentence in loaded.sentences():
        screen.warn(sentence)
    if top > len(loaded.predictor.classes):
        raise UsageError(f"--top {top}: the model knows {len(loaded.predictor.classes)} classes")
    if unsure_below is not None and not loaded.predictor.is_calibrated:
        names = ", ".join(map(str, loaded.paths))
        screen.warn(f"{names}: not calibrated; confidences may be too high")


def _warn(failed: Sequence[tuple[str, str]], predictor: Answering, screen: Screen) -> None:
    """Warns of engines that failed and photos that could not be read."""
    for remark in (*predictor.remarks, *sentences_on_values(predictor)):
        screen.warn(remark)
    if failed:
        lines = [f"{name} {reason}" for name, reason in failed]
        screen.warn(f"{counted(len(lines), 'photo')} could not be read; see the status column:\n{listing(lines)}")


def _served(predictor: Answering, images_per_second: float) -> str:
    """Speed and engine, and how many photos were decoded at reduced size."""
    speed = f"{images_per_second:,.0f}" if images_per_second >= 9.5 else f"{images_per_second:.2g}"
    decoded = ""
    if smaller := predictor.counted.smaller:
        decoded = f"; {counted(smaller, 'large JPEG')} decoded at reduced size (engine plain uses full size)"
    return f"; {speed} images/s by {predictor.served_by}{decoded}" if predictor.served_by else ""
