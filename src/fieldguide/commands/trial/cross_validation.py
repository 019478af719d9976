"""Cross-validation (`split.folds`): one new model per fold, and their figures."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide import assemble
from fieldguide.commands.terminal.faults import explained, how_to_go_on
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.carry_out import Run
from fieldguide.commands.trial.keep import label_errors_csv
from fieldguide.commands.trial.prepare import Prepared
from fieldguide.commands.trial.request import Request, read_request, write_recipe, write_request
from fieldguide.commands.trial.result import report_folds
from fieldguide.data.look.findings import Remark
from fieldguide.data.split.folds import Folds, folds_csv, make_folds
from fieldguide.data.split.partition import group_numbers
from fieldguide.errors import NotFiniteError, PhotosError, counted, listing
from fieldguide.evaluation.calibration import log_loss
from fieldguide.evaluation.intervals import spread
from fieldguide.evaluation.label_errors import suspects
from fieldguide.evaluation.metrics import judge
from fieldguide.evaluation.predictions import Predictions, read_predictions, write_predictions
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.load import read_recipe
from fieldguide.recipe.resolve import settled_as
from fieldguide.report.chosen import chosen_in_folds
from fieldguide.result_format import RESULT_FORMAT, is_spoilt
from fieldguide.run_folder import RunFolder
from fieldguide.storage import csv_line, digest, write_text

HEADER = ("file", "class", "predicted", "confidence", "fold")
TrainFold = Callable[[Prepared, RunFolder], Run]


@dataclass(frozen=True)
class OutOfFold:
    """The prediction for each photo, by the model that was not trained on it.

    `fold` is (photos,) from 1; `failed` has file and reason for each photo that could not be read.
    """

    predictions: Predictions
    fold: npt.NDArray[np.int64]
    failed: tuple[dict[str, str], ...]


def cross_validate(
    name: str,
    recipe: ResolvedRecipe,
    prepared: Prepared,
    run: RunFolder,
    screen: Screen,
    train_fold: TrainFold,
    *,
    device: str,
) -> Run:
    """Trains one new model per fold, and judges each photo by the model that was not trained on it.

    Training and validation photos are dealt into folds, and each fold becomes a run in `run`; folds that are there
    already are resumed. `train_fold` trains what was prepared for a fold into a run.

    The result is as of a run, with the out-of-fold figures as `validation`, and `folds`. If a fold was stopped, it is
    that fold's result with its number, and no `result.json` is written. Raises PhotosError if there are fewer photos
    than folds, or photos have changed since the folds were dealt; else as one training raises (finished folds stay).
    """
    assert recipe.split.folds is not None, "a recipe without folds is trained once"
    folds = make_folds(prepared.split, seed=recipe.split.seed, folds=recipe.split.folds, groups=prepared.groups)
    new = [remark for remark in folds.remarks if remark not in prepared.remarks]
    for remark in new:
        screen.warn(remark.sentence)
    with explained(run), run.held():
        _begin_or_go_on(name, recipe, prepared, folds, run, device)
        prepared = replace(prepared, remarks=(*prepared.remarks, *new))
        results = _train_folds(folds, prepared, run, screen, train_fold)
        if results[-1]["stopped"]:
            return Run(run.path, {**results[-1], "fold": len(results)})
        out_of_fold = gather_out_of_fold(folds, run)
        _write_out_of_fold(out_of_fold, run)
        result = _result(recipe, folds, results, out_of_fold, prepared.remarks)
        run.write_result(result)
        report_folds(run, result, screen)
        return Run(run.path, result)


def _train_folds(
    folds: Folds, prepared: Prepared, run: RunFolder, screen: Screen, train_fold: TrainFold
) -> list[dict[str, Any]]:
    """The result of each fold, up to one that was stopped."""
    results: list[dict[str, Any]] = []
    try:
        for number, split in enumerate(folds.splits, start=1):
            screen.say(f"\nfold {number} of {len(folds.splits)}", style="bold")
            result = train_fold(replace(prepared, split=split), run.fold(number)).result
            if result["stopped"]:
                _say_what_stays(run, results, len(folds.splits), screen, is_spoilt(result))
                return [*results, result]
            results.append(result)
    except BaseException as error:
        if not any(run.fold(number).can_go_on for number in range(1, len(folds.splits) + 1)):
            run.remove_without_checkpoint()
        if run.path.exists():
            _say_what_stays(run, results, len(folds.splits), screen, isinstance(error, NotFiniteError))
        raise
    return results


def settled_as_first_fold(recipe: ResolvedRecipe, run: RunFolder) -> ResolvedRecipe:
    """The recipe with each `auto` as the first fold settled it, so that all folds train alike."""
    first = run.fold(1).recipe
    return settled_as(recipe, assemble.resolved(read_recipe(first))) if first.exists() else recipe


def gather_out_of_fold(folds: Folds, run: RunFolder) -> OutOfFold:
    """The logits that each fold's run kept for the photos it was not trained on; raises UsageError if they are damaged.

    Without the fold's temperature, which was fitted on these same photos.
    """
    classes = folds.splits[0].classes
    kept, failed, fold_of = [], [], []
    rows = {row.file: row for split in folds.splits for row in split.part("val")}
    for number in range(1, len(folds.splits) + 1):
        of_fold = read_predictions(run.fold(number).predictions)
        assert of_fold.classes == tuple(classes)  # a fold never takes the last photos of a class
        kept.append(of_fold)
        fold_of += [number] * len(of_fold.files)
        failed += run.fold(number).read_result()["validation"]["failed"]
    predictions = Predictions(
        tuple(file for of_fold in kept for file in of_fold.files),
        np.concatenate([of_fold.labels for of_fold in kept]),
        np.concatenate([of_fold.logits for of_fold in kept]),
        tuple(classes),
        group_numbers([rows[file] for of_fold in kept for file in of_fold.files]),
    )
    return OutOfFold(predictions, np.array(fold_of, dtype=np.int64), tuple(failed))


def _begin_or_go_on(
    name: str, recipe: ResolvedRecipe, prepared: Prepared, folds: Folds, run: RunFolder, device: str
) -> None:
    """Writes what the folds share; when resuming, raises PhotosError if the photos would be dealt in another way."""
    text = folds_csv(folds)
    if run.can_go_on:
        if read_request(run).split_sha256 != digest(text.encode()):
            raise PhotosError(_what_changed(run, text))
    else:
        run.demand_nothing_in_it()
        source, data = prepared.folder.asked_for.resolved(), recipe.model_dump(mode="json")
        shared, folder = digest(text.encode()), None if source.photos is None else str(source.photos)
        known = Request(str(source.path), name, data, shared, prepared.sentences, {}, {}, device, True)
        write_request(run, replace(known, photos_folder=folder, columns=source.columns))
    if not run.recipe.exists():
        write_recipe(run, recipe, name)
    write_text(run.folds, text)


def _what_changed(run: RunFolder, text: str) -> str:
    """The photos whose line in folds.csv would change."""
    before = run.folds.read_text(encoding="utf-8").splitlines() if run.folds.exists() else []
    changed = sorted(set(before) ^ set(text.splitlines()))
    files = list(dict.fromkeys(next(csv.reader([line]))[0] for line in changed))
    return (
        f"{run.path}: {counted(len(files), 'photo')} changed since this cross-validation began, or would be in another "
        f"fold:\n{listing(files)}\nPut them back to resume, or start a new run with another -o"
    )


def _say_what_stays(
    run: RunFolder, results: Sequence[Mapping[str, Any]], folds: int, screen: Screen, spoilt: bool
) -> None:
    another = "start a new run with another -o and another setting, such as a tenth of training.learning_rate"
    how = f"resuming would fail again in fold {len(results) + 1}; {another}" if spoilt else how_to_go_on(run)
    screen.warn(f"cross-validation stopped: {len(results)} of {folds} folds finished, kept in {run.path}; {how}")


def _write_out_of_fold(found: OutOfFold, run: RunFolder) -> None:
    """One row per photo as CSV, the logits of all classes, and likely label errors."""
    predictions = found.predictions
    predicted, probabilities = predictions.predicted(), predictions.probabilities()
    lines = [csv_line(HEADER)]
    for place in sorted(range(len(predictions.files)), key=lambda place: predictions.files[place]):
        file, truth = predictions.files[place], predictions.classes[predictions.labels[place]]
        label, confidence = predictions.classes[predicted[place]], probabilities[place, predicted[place]]
        lines.append(csv_line((file, truth, label, f"{confidence:.6f}", str(found.fold[place]))))
    write_text(run.out_of_fold, "".join(lines))
    write_predictions(run.out_of_fold_logits, predictions)
    write_text(run.label_errors, label_errors_csv(suspects(predictions)))


def _result(
    recipe: ResolvedRecipe, folds: Folds, results: Sequence[dict[str, Any]], found: OutOfFold, remarks: Sequence[Remark]
) -> dict[str, Any]:
    first, split = results[0], folds.splits[0]
    predictions = found.predictions
    judged = judge(predictions.probabilities(), predictions.labels, predictions.classes, predictions.groups)
    judged["loss"] = log_loss(predictions.logits, predictions.labels)  # as in a run; `judge` clips each photo's loss
    same = ("recipe", "backbone", "optimizer", "execution", "seed", "num_classes", "parameters", "rules", "weights")
    place = folds.place_of()
    training, sizes = recipe.training, any(result["test_time"]["taken"] for result in results)
    return {
        "format": RESULT_FORMAT,
        **{key: first[key] for key in same},
        "validation": {key: value for key, value in judged.items() if key not in ("per_class", "confused_pairs")}
        | {
            "failed": list(found.failed),
            "chose": chosen_in_folds(len(folds.splits), training.best_by, training.metric, sizes=sizes),
        },
        "folds": _spread_over_folds(found, results),
        "test": None,
        "test_evaluations": 0,
        "epochs": sum(result["epochs"] for result in results),
        "stopped": None,
        "seconds": sum(result["seconds"] for result in results),
        "split": {
            "fingerprint": digest("\n".join(of_fold.fingerprint() for of_fold in folds.splits).encode()),
            "out_of_fold": sum(where.isdecimal() for where in place.values()),
            "always_train": sum(where == "train" for where in place.values()),
            **{part: len(split.part(part)) for part in ("test", "excluded")},
        },
        "remarks": [remark.sentence for remark in remarks],
    }


def _spread_over_folds(found: OutOfFold, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy of each fold, their mean and standard deviation.

    There is no interval of the mean: the folds share most training photos, so their accuracies are not independent, and
    no unbiased estimate of the variance of the mean exists (Bengio and Grandvalet 2004, Journal of Machine Learning
    Research 5:1089-1105).
    """
    right = found.predictions.predicted() == found.predictions.labels
    each = []
    for number, result in enumerate(results, start=1):
        mine = found.fold == number
        images, correct = int(mine.sum()), int(right[mine].sum())
        accuracy = correct / images if images else None
        trained = {"best_epoch": result["best_epoch"], "epochs": result["epochs"]}
        cut = result.get("out_of_time", False)  # a fold of an earlier version has none
        each.append({"fold": number, "images": images, "accuracy": accuracy, **trained, "out_of_time": cut})
    over = spread([row["accuracy"] for row in each if row["accuracy"] is not None])
    return {"n": over.n, "mean": over.mean, "deviation": over.deviation, "each": each}
