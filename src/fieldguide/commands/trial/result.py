"""What stands in a run's `result.json`, and the last lines on the screen."""

from dataclasses import asdict
from typing import Any

from fieldguide.commands.judging.judge import calibration_sentence, interval_and_n, macro_sentence
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.live import Trial
from fieldguide.errors import counted, duration
from fieldguide.report.chosen import chosen
from fieldguide.result_format import RESULT_FORMAT
from fieldguide.run_folder import RunFolder
from fieldguide.training.plan import Ended
from fieldguide.training.state import Soup, State


def result_of(trial: Trial, state: State, judged: dict[str, Any]) -> dict[str, Any]:
    """Figures, counts and verdicts of a training that has a model, as plain data.

    Test evaluations stay counted when the training resumes; their figures are dropped, being of another model.

    Args:
        trial: that ended.
        state: at its end.
        judged: `validation`, `calibration` and `test_time`.
    """
    assert state.best is not None
    training, split, best = trial.recipe.training, trial.split, state.best.epoch
    test_time, epochs = judged["test_time"], state.best.soup or (best.epoch,)
    tried = len(test_time["tried"]) if test_time["taken"] else 0
    chose = chosen(epochs, len(state.history), training.best_by, training.metric, tried)
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
        "micro_batch_size": training.micro_batch_size,
        "halved": [asdict(halved) for halved in state.halved],
        "images_per_second": images / sum(epoch.training.images / epoch.images_per_second for epoch in history),
        "waited_for_data": trial.assembled.feed.waiting.share,
    }


def _stage(ended: Ended) -> dict[str, Any]:
    stage = ended.stage
    return {
        "kind": stage.kind,
        "name": stage.name,
        "learning_rate": stage.learning_rate,
        "epochs": ended.epochs,
        "improved": ended.improved,
        "max_epochs": stage.max_epochs,
        "min_improvement": stage.min_improvement,
        "patience_epochs": stage.patience_epochs,
        "reason": {"kind": str(ended.reason), "text": ended.sentence()},
    }


def _probe(state: State) -> dict[str, Any] | None:
    """What the head that was solved for reached, as a result of its own; None where there was no probe."""
    found = [
        epoch
        for epoch in state.history
        if epoch.stage_number <= len(state.ended) and state.ended[epoch.stage_number - 1].stage.method == "probe"
    ]
    if not found:
        return None
    return {"training": found[0].training.to_dict(), "validation": found[0].validation.to_dict()}


def soup_sentence(soup: Soup, best_by: str, metric: str) -> str:
    """What came of it by the figures that chose, and who chose."""
    best, count = f"epoch {soup.epochs[0]} alone", counted(len(soup.candidates), "candidate")
    figure = metric if best_by == "validation_accuracy" else "loss"
    values = [scores.to_dict()[figure] for scores in (soup.before, soup.after)]
    before, after = (f"{figure.replace('_', ' ')} {value:.4f}" for value in values)
    if len(soup.epochs) == 1:
        return f"greedy soup of {count}: no mean is better on validation than {best} ({before}), which stays"
    if values[0] == values[1] and figure != "loss":  # then the loss decided
        before, after = f"{before} and loss {soup.before.loss:.4f}", f"{after} and loss {soup.after.loss:.4f}"
    mean = f"greedy soup of {count}: the mean of epochs {', '.join(map(str, soup.epochs))} has validation {after}, "
    end = (
        "it is the model, and validation chose it, so its figure is optimistic"
        if soup.is_kept
        else "it is not better, and the epoch's model stays"
    )
    return f"{mean}{best} {before}; {end}"


def report_result(run: RunFolder, result: dict[str, Any], screen: Screen) -> None:
    """Says how good the model is, and where it lies."""
    validation = result["validation"]
    screen.say(
        f"validation accuracy {validation['accuracy']:.4f} "
        f"({interval_and_n(validation)}; "
        f"chosen on these photos: {validation['chose']['text']}, so it is optimistic), {macro_sentence(validation)}",
        style="bold",
    )
    screen.say(calibration_sentence(result["calibration"]))
    screen.say(
        f"{result['epochs']} epochs in {duration(result['seconds'])}, {result['images_per_second']:.0f} images/s; "
        f"run: {run.path}, report: {run.report}"
    )
