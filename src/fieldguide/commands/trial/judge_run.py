"""From a trained bundle to figures: test size, predictions, temperature, result and report."""

import shlex
from dataclasses import replace
from typing import Any

from fieldguide import assemble, world
from fieldguide.commands.judging.judge import judge_photos
from fieldguide.commands.trial.choose_size import settle_size
from fieldguide.commands.trial.keep import keep_for_report
from fieldguide.commands.trial.live import Trial
from fieldguide.commands.trial.result import result_of
from fieldguide.deploy.predictor import load_predictor
from fieldguide.evaluation.calibration import calibration_summary
from fieldguide.evaluation.predictions import read_predictions, write_predictions
from fieldguide.model.bundle import write_temperature
from fieldguide.report.figures import draw_curves
from fieldguide.report.write import report as write_report
from fieldguide.training.budget import RESERVE, fewest_judged
from fieldguide.training.state import State


def judge_and_write(trial: Trial, state: State) -> dict[str, Any]:
    """Settles the test size, judges the bundle, and writes result and report."""
    run, rows, photos, device = trial.run, trial.split.part("val"), trial.assembled.to_judge, trial.device
    left = None if trial.seconds_left is None else max(0.0, trial.seconds_left() - _for_pages())
    seconds = 0 if state.stopped else left  # a person who stopped it is waiting
    test_time = settle_size(run, trial.recipe, rows, photos, device, trial.screen, seconds)
    judged = _judge(trial) | {"test_time": test_time}
    draw_curves(run)
    trial.screen.say("drawing the report")
    keep_for_report(run, read_predictions(run.predictions), photos, device)
    result = result_of(trial, state, judged)
    run.write_result(result)
    write_report(run.path)
    return result


def _for_pages() -> float:
    """Seconds that are needed after the last photo was judged."""
    return RESERVE * world.slowness()


def _judge(trial: Trial) -> dict[str, Any]:
    """Judges the bundle on the validation photos, keeps its predictions and fits its temperature.

    Ends with the time, but not before a few of each class; then what was judged is stratified by class.
    """
    run, photos, rows = trial.run, trial.assembled.to_judge, trial.split.part("val")
    fewest = fewest_judged(len({row.class_name for row in rows}))
    left = None if trial.recipe.split.folds else trial.seconds_left  # of folds each photo is judged
    pages = _for_pages()

    def is_out_of_time(judged: int) -> bool:
        return left is not None and judged >= fewest and left() < pages

    in_turn = rows if left is None else assemble.in_proportion(rows, trial.recipe.training.seed)
    judged = judge_photos(load_predictor(run.path, trial.device), in_turn, photos, is_enough=is_out_of_time)
    judged = replace(judged, predictions=judged.predictions.in_order_of([row.file for row in rows]))
    answers = judged.predictions  # resampled intervals depend on the order
    if missing := len(rows) - len(answers.files) - len(judged.failed):
        trial.screen.warn(
            f"out of time after judging {len(answers.files):,} of {len(rows):,} validation photos, stratified by "
            f"class. To judge them all: fieldguide evaluate {shlex.quote(str(run.path))} PHOTOS --part val"
        )
    write_predictions(run.predictions, answers)
    calibration = calibration_summary(answers.logits, answers.labels, groups=answers.groups)
    fit = calibration["temperature"], calibration["fitted_on_n"], calibration["temperature_note"]
    write_temperature(run.bundle, *fit)
    figures = {key: value for key, value in judged.figures().items() if key not in ("per_class", "confused_pairs")}
    return {"validation": figures | ({"not_judged": missing} if missing else {}), "calibration": calibration}
