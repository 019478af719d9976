"""The content of a run's `result.json`, and the last lines on the screen."""

from dataclasses import asdict
from typing import Any

from fieldguide.commands.judging.judge import calibration_sentence, interval_and_n, macro_sentence
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.live import Trial
from fieldguide.errors import counted, duration, listing
from fieldguide.report.chosen import chosen
from fieldguide.result_format import RESULT_FORMAT
from fieldguide.run_folder import RunFolder
from fieldguide.training.plan import Ended
from fieldguide.training.state import Soup, State


def result_of(trial: Trial, state: State, judged: dict[str, Any]) -> dict[str, Any]:
    """Figures, counts and verdicts of a training that has a model, as plain data.

    `judged` has `validation`, `calibration` and `test_time`. Test evaluations stay counted when the training resumes;
    their figures are dropped, being of another model.
    """
    assert state.best is not None
    training, split, best = trial.recipe.training, trial.split, state.best.epoch
    test_time, epochs = judged["test_time"], state.best.soup or (best.epoch,)
    tried = len(test_time["tried"]) if test_time["taken"] else 0
    chose = chosen(epochs, len(state.history), training.best_by, training.metric, tried, training.validation_photos)
    return {
        "format": RESULT_FORMAT,
        "recipe": trial.name,
        "backbone": trial.recipe.model.backbone,
        "optimizer": training.optimizer,
        "execution": trial.recipe.execution,
        "seed": training.seed,
        "metric": training.metric,
        "imbalance": training.imbalance,
        "num_classes": len(split.classes),
        "parameters": trial.assembled.parameters,
        "rules": trial.rules,
        "weights": trial.assembled.weights.to_dict(),
        "training": best.training.to_dict(),
        "validation": judged["validation"] | {"chose": chose},
        "calibration": judged["calibration"],
        "test_time": test_time,
        "test": None,
        "test_evaluations": trial.run.test_evaluations(),
        "epochs": len(state.history),
        "best_epoch": best.epoch,
        "soup": state.soup.to_dict() if state.soup else None,
        "stages": [_stage(ended) for ended in state.ended],
        "more_epochs": [more.epochs for more in state.more],
        "stopped": state.stopped.to_dict() if state.stopped else None,
        "plan": list(trial.assembled.told),
        "backbones": trial.prepared.backbones,
        "out_of_time": state.out_of_time,
        "probe": _probe(state),
        **_cost(trial, state),
        "split": {
            "fingerprint": split.fingerprint(),
            **{part: len(split.part(part)) for part in ("train", "val", "test", "excluded")},
        },
        "remarks": list(trial.prepared.sentences),
    }


def _cost(trial: Trial, state: State) -> dict[str, Any]:
    """Time, speed and memory."""
    training, history = trial.recipe.training, state.history
    images = sum(epoch.training.images for epoch in history)
    return {
        "seconds": sum(epoch.seconds for epoch in history),
        "precision": training.precision,
        "compile": {"mode": training.compile, "measured": trial.assembled.compiling or None, **_graphs(trial)},
        "micro_batch_size": training.micro_batch_size,
        "halved": [asdict(halved) for halved in state.halved],
        **({"skipped_steps": sum(steps for _, steps in state.skipped)} if state.scaling is not None else {}),
        "images_per_second": images / sum(epoch.training.images / epoch.images_per_second for epoch in history),
        "waited_for_data": trial.assembled.feed.waiting.share,
        "checkpoints": trial.checkpoints.writer.told(),
    }


def _graphs(trial: Trial) -> dict[str, Any]:
    """What this process compiled."""
    graphs = trial.assembled.graphs
    return {} if graphs is None else graphs.told()


def _stage(ended: Ended) -> dict[str, Any]:
    stage = ended.stage
    return {
        "kind": stage.kind,
        "name": stage.name,
        "learning_rate": stage.learning_rate,
        "epochs": ended.epochs,
        "improved": ended.improved,
        "max_epochs": stage.max_epochs,
        "replanned": [list(pair) for pair in stage.replanned],
        "min_improvement": stage.min_improvement,
        "patience_epochs": stage.patience_epochs,
        "reason": {"kind": str(ended.reason), "text": ended.sentence()},
    }


def _probe(state: State) -> dict[str, Any] | None:
    """The figures of the probe's head; None without a probe."""
    probes = [number for number, ended in enumerate(state.ended, start=1) if ended.stage.method == "probe"]
    epoch = next((epoch for epoch in state.history if epoch.stage_number in probes), None)
    return None if epoch is None else {"training": epoch.training.to_dict(), "validation": epoch.validation.to_dict()}


def soup_sentence(soup: Soup, best_by: str, metric: str) -> str:
    """The soup's outcome, by the figure that chose it."""
    best, count = f"epoch {soup.epochs[0]} alone", counted(len(soup.candidates), "candidate")
    figure = metric if best_by == "validation_accuracy" else "loss"
    values = [scores.to_dict()[figure] for scores in (soup.before, soup.after)]
    before, after = (f"{figure.replace('_', ' ')} {value:.4f}" for value in values)
    if len(soup.epochs) == 1:
        return f"greedy soup of {count}: no mean beats {best} ({before}) on validation; that epoch is kept"
    if values[0] == values[1] and figure != "loss":  # the loss decided
        before, after = f"{before} and loss {soup.before.loss:.4f}", f"{after} and loss {soup.after.loss:.4f}"
    mean = f"greedy soup of {count}: the mean of epochs {', '.join(map(str, soup.epochs))} has validation {after}, "
    end = "the mean is the model; its figure is optimistic, because validation chose it"
    if not soup.is_kept:
        end = "the mean is not better; that epoch is kept"
    return f"{mean}{best} {before}; {end}"


def report_result(run: RunFolder, result: dict[str, Any], screen: Screen) -> None:
    """Says how good the model is, and where it is."""
    validation = result["validation"]
    screen.say(
        f"validation accuracy {validation['accuracy']:.4f} ({interval_and_n(validation)}; "
        f"chosen on these photos: {validation['chose']['text']}, so it is optimistic), {macro_sentence(validation)}",
        style="bold",
    )
    screen.say(calibration_sentence(result["calibration"]))
    screen.say(
        f"{counted(result['epochs'], 'epoch')} in {duration(result['seconds'])}, "
        f"{result['images_per_second']:.0f} images/s; run: {run.path}, report: {run.report}"
    )


def report_folds(run: RunFolder, result: dict[str, Any], screen: Screen) -> None:
    """Says how good the models of a cross-validation are, fold by fold and together."""
    validation, folds = result["validation"], result["folds"]
    if validation["failed"]:
        lines = [f"{entry['file']} {entry['reason']}" for entry in validation["failed"]]
        screen.warn(f"{counted(len(lines), 'photo')} unreadable; not counted:\n{listing(lines)}")
    screen.say("")
    for row in folds["each"]:
        share = "-" if row["accuracy"] is None else f"{row['accuracy']:.4f}"
        screen.say(f"fold {row['fold']:>3}  accuracy {share}  n = {row['images']:,}")
    if cut := [str(row["fold"]) for row in folds["each"] if row["out_of_time"]]:
        screen.warn(
            f"{len(cut)} of {counted(len(folds['each']), 'fold')} ran out of time ({', '.join(cut)}), so the models of "
            "the folds are not trained alike"
        )
    deviation = "" if folds["deviation"] is None else f", standard deviation {folds['deviation']:.4f}"
    screen.say(f"mean over {folds['n']} folds {folds['mean']:.4f}{deviation}")
    screen.say(
        f"out-of-fold accuracy {validation['accuracy']:.4f} ({interval_and_n(validation)}; "
        f"each photo by the model that was not trained on it; chosen on these photos: {validation['chose']['text']}, "
        "so it is optimistic)",
        style="bold",
    )
    screen.say(
        f"{counted(result['epochs'], 'epoch')} in {duration(result['seconds'])}; run: {run.path}, "
        f"every photo: {run.out_of_fold}, likely label errors: {run.label_errors}"
    )
