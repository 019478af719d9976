"""`fieldguide evaluate`: the accuracy of a trained classifier on labelled photos."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldguide.commands.judging import judge
from fieldguide.commands.judging.known_photos import Known, known_photos, rows_to_judge, sha256_of_test
from fieldguide.commands.judging.labels import find_labelled
from fieldguide.commands.judging.looks import keep_in_runs
from fieldguide.commands.judging.models import Loaded, Runs, class_folder_of, load_runs, split_of, two_labels_of
from fieldguide.commands.judging.parts import PARTS, choose_part, common_split, of_known_classes
from fieldguide.commands.judging.seen import seen_by_runs
from fieldguide.commands.terminal.outputs import demand_free_outputs
from fieldguide.commands.terminal.screen import Screen, warn_of_hidden_gpu
from fieldguide.data.look.inspect import Inspected, inspect
from fieldguide.data.look.listed_rules import listed_problems
from fieldguide.data.look.scan import Photo, PhotoFolder, natural
from fieldguide.data.look.source import as_source
from fieldguide.data.read.formats import missing_decoders
from fieldguide.deploy.answers import sentences_on_values
from fieldguide.deploy.names import PLAIN
from fieldguide.errors import PhotosError, UsageError, counted, listing, shown
from fieldguide.evaluation.metrics import confusion
from fieldguide.storage import problem_with_output_file, write_json
from fieldguide.world import Device


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        part: `test`, `val`, `train`, or `all` for a folder of labelled photos without parts.
        figures: plain data, as `validation` in `result.json`, with `per_class`, `confused_pairs`, `failed` and
            `calibration`. `loss` is without calibration; `calibration` has it before and after. For `test` also
            `photos_sha256`, with which `compare` knows whether two figures are from the same photos.
        remarks: sentences that a person should read.
        not_kept: the remarks about figures that could not be written into a run.
    """

    part: str
    figures: dict[str, Any]
    remarks: tuple[str, ...]
    not_kept: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Evaluation({self.part}, accuracy {self.figures['accuracy']:.4f}, n = {self.figures['images']:,})"

    @property
    def exit_code(self) -> int:
        """0, or 3 if photos could not be read."""
        return 3 if self.figures["failed"] else 0


def evaluate(
    run: Runs,
    photos: str | Path,
    *,
    part: str | None = None,
    labels: str | Path | None = None,
    json_file: str | Path | None = None,
    device: Device = "auto",
    engine: str = PLAIN,
    allow_broken_rules: bool = False,
    photos_folder: str | Path | None = None,
    columns: str | None = None,
    skip_unknown: bool = False,
    quiet: bool = False,
) -> Evaluation:
    """Evaluates the model of a run or a bundle on labelled photos.

    Args:
        run: a run, a bundle or an export; or several runs with the same classes, whose calibrated probabilities are
            averaged.
        photos: a folder of photos, laid out as for `train`, or with `test/CLASS/` alone; a table; or an archive.
        part: `test`, `val` or `train`. None: test if it is labelled, else val, else all photos (if the folder has no
            parts and the run knows none of its photos).
        labels: a table with the classes of a flat `test/`, or of a folder without class folders.
        json_file: where to write the figures.
        device: `auto`, `cpu`, `cuda:N`, `mps` or a `torch.device`.
        engine: as for `predict`; another than plain is named in the figures. Photos are decoded at full size.
        allow_broken_rules: continue if the ensemble breaks a run's rule.
        photos_folder: where the photos of a table are; None: beside it.
        columns: the columns of the table or of `labels`, such as `label=species`; None: found by name.
        skip_unknown: leave out photos of classes that the model does not know, and say so.
        quiet: show nothing.

    Returns:
        The figures. On `test`, those of a single run are also written into its `result.json`, where every run counts
        its evaluations on test photos. Figures of several runs have `ensemble`; `loss` is that of mean probabilities.

    Raises:
        UsageError: wrong paths or part, or a `json_file` that is a photo, the labels or a run's file; for several runs
            also different classes or splits, or a broken rule.
        PhotosError: classes that the model does not know, or no readable photo.
    """
    screen = Screen(quiet=quiet)
    warn_of_hidden_gpu(device, screen)
    _demand_options(part, labels, json_file)
    asked = as_source(photos, photos_folder, columns)
    loaded = load_runs(run, device, engine, allow_broken_rules=allow_broken_rules)
    source = replace(asked, class_folder=class_folder_of(loaded.paths), is_for_training=False)
    folder, about_labels = find_labelled(source, None if labels is None else Path(labels), columns)
    about_labels += _about_table(folder, two_labels_of(loaded.paths))
    if folder.listed is not None:
        screen.say(f"{folder.name}: {folder.listed.sentence}")
    predictor, paths = loaded.predictor, (photo.path for photo in folder.photos)
    others = {"the file of --labels": labels, "the table or archive": source.path}
    demand_free_outputs({"--json": json_file}, paths, others)
    splits = [split_of(path) for path in loaded.paths]
    chosen, wanted, remarks = choose_part(folder, common_split(splits, folder, part), part)
    wanted, unknown = of_known_classes(wanted, predictor.classes, source.path, skip=skip_unknown)
    looked_at = [] if chosen == "train" else inspect(wanted, predictor.max_megapixels, decode_parts=())
    known = known_photos(looked_at, chosen, splits, seen_by_runs(loaded.paths))
    remarks = [*loaded.sentences(), *about_labels, *remarks, *unknown]
    remarks += _remarks(wanted, chosen, known, predictor.classes)
    rows = rows_to_judge(wanted, chosen, looked_at, splits)
    with screen.counting("evaluating", len(rows)) as advance:
        judged = judge.judge_photos(predictor, rows, {photo.file: photo.path for photo in wanted}, advance)
    figures = _figures(judged, loaded, chosen, known, looked_at)
    remarks += [*predictor.remarks, *missing_decoders(photo.file for photo in wanted)]
    remarks += sentences_on_values(predictor)
    if engine != PLAIN:
        figures["engine"] = predictor.served_by
        remarks.append(f"computed by engine {predictor.served_by}")
    evaluation = Evaluation(chosen, figures, tuple(remarks))
    show(evaluation, screen)
    return _keep(evaluation, loaded, json_file, screen)


def _about_table(folder: PhotoFolder, two_labels: str) -> list[str]:
    """What of a table fits nothing; raises PhotosError for photos with two labels, unless the run left them out."""
    problems, remarks = listed_problems(folder, "exclude", "exclude", two_labels)
    if problems:
        raise PhotosError(*(problem.rpartition(", or leave")[0] for problem in problems))
    return [remark.sentence for remark in remarks]


def _figures(
    judged: judge.Judged, loaded: Loaded, part: str, known: Known, looked_at: Sequence[Inspected]
) -> dict[str, Any]:
    fitted = known.was_fitted_on(part)
    calibration = judge.calibration_of(loaded.predictor, judged.predictions, part, fitted_on_these=fitted)
    figures = {"part": part, **judged.figures(), "calibration": calibration, **loaded.described()}
    predictions = judged.predictions
    whole = confusion(predictions.labels, predictions.predicted(), predictions.classes)
    figures["per_class"] = [row | {"f1": whole["f1"][row["class"]]} for row in figures["per_class"]]
    figures |= {"macro_f1": whole["macro_f1"], "confusion_matrix": whole["confusion_matrix"]}
    return figures | ({"photos_sha256": sha256_of_test(looked_at)} if part == "test" else {})


def _demand_options(part: str | None, labels: str | Path | None, json_file: str | Path | None) -> None:
    if part is not None and part not in PARTS:
        raise UsageError(f"--part {part}: must be test, val or train")
    if labels is not None and part not in (None, "test"):
        raise UsageError(f"--labels are for test photos, but --part is {part}; leave one of them out")
    if json_file is not None and (problem := problem_with_output_file(Path(json_file))):
        raise UsageError(f"--json {json_file}: {problem}")


def _remarks(photos: Sequence[Photo], part: str, known: Known, classes: Sequence[str]) -> list[str]:
    """What a person should know about the figures."""
    found = []
    if missing := sorted(set(classes) - {photo.class_name for photo in photos}, key=natural):
        found.append(f"{counted(len(missing), 'class')} without a photo here: {', '.join(missing[:10])}")
    if part == "train":
        found.append("these are training photos: the figures say nothing about new photos")
    return found + known.remarks(part)


def _keep(evaluation: Evaluation, loaded: Loaded, json_file: str | Path | None, screen: Screen) -> Evaluation:
    """Writes the figures to `json_file`, and those of a test into the run; adds remarks about that.

    Raises UsageError if the file cannot be written; the run has the figures anyway.
    """
    problem = None
    if json_file is not None:
        try:
            write_json(Path(json_file), evaluation.figures)
            screen.say(f"figures: {json_file}")
        except OSError as error:
            problem = f"--json {json_file}: cannot be written ({error.strerror or error})"
    remarks = keep_in_runs(loaded, evaluation.figures) if evaluation.part == "test" else []
    for remark in remarks:
        screen.warn(remark)
    if problem:
        raise UsageError(problem)
    return replace(evaluation, remarks=(*evaluation.remarks, *remarks), not_kept=tuple(remarks))


def show(evaluation: Evaluation, screen: Screen) -> None:
    """The figures on a screen."""
    from rich.table import Table
    from rich.text import Text

    figures = evaluation.figures
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("class", "photos", "recall", "precision"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for row in sorted(figures["per_class"], key=lambda row: natural(row["class"])):
        name = Text(shown(row["class"]))  # no name is markup
        table.add_row(name, f"{row['images']:,}", _share(row["recall"]), _share(row["precision"]))
    screen.show(table)
    if figures["confused_pairs"]:
        screen.say("most confused:")
        for pair in figures["confused_pairs"][:10]:
            screen.say(f"  {pair['actual']} predicted as {pair['predicted']}: {pair['count']} of {pair['images']}")
    for remark in evaluation.remarks:
        screen.warn(remark)
    if figures["failed"]:
        lines = [f"{entry['file']} {entry['reason']}" for entry in figures["failed"]]
        screen.warn(f"{counted(len(lines), 'photo')} unreadable; not counted:\n{listing(lines)}")
    top5 = "" if figures["top5_accuracy"] is None else f", top-5 {figures['top5_accuracy']:.4f}"
    screen.say(
        f"{evaluation.part} accuracy {figures['accuracy']:.4f} ({judge.interval_and_n(figures)}), "
        f"{judge.macro_sentence(figures)}{top5}, loss {figures['loss']:.4f}",
        style="bold",
    )
    screen.say(judge.calibration_sentence(figures["calibration"]))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
