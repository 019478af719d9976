"""From a trained bundle to figures: test size, predictions, temperature, result and report."""

from typing import Any

from fieldguide.commands.judging.judge import judge_photos
from fieldguide.commands.trial.choose_size import settle_size
from fieldguide.commands.trial.keep import keep_for_report
from fieldguide.commands.trial.live import Trial
from fieldguide.commands.trial.result import result_of
from fieldguide.data.read.photo_pixels import ToJudge
from fieldguide.data.split.partition import Split
from fieldguide.deploy.predictor import load_predictor
from fieldguide.evaluation.calibration import calibration_summary
from fieldguide.evaluation.predictions import read_predictions, write_predictions
from fieldguide.model.bundle import write_temperature
from fieldguide.report.figures import draw_curves
from fieldguide.report.write import report as write_report
from fieldguide.run_folder import RunFolder
from fieldguide.training.budget import RESERVE
from fieldguide.training.state import State


def judge_and_write(trial: Trial, state: State) -> dict[str, Any]:
    """Settles the test size, judges the bundle, and writes result and report."""
    run, rows, photos, device = trial.run, trial.split.part("val"), trial.assembled.to_judge, trial.device
    seconds = None if trial.seconds_left is None else max(0.0, trial.seconds_left() - RESERVE)  # all but the report's
    if state.stopped:
        seconds = 0  # a person who stopped it is waiting
    test_time = settle_size(run, trial.recipe, rows, photos, device, trial.screen, seconds)
    judged = _judge(run, trial.split, photos, device) | {"test_time": test_time}
    draw_curves(run)
    trial.screen.say("drawing the report")
    keep_for_report(run, read_predictions(run.predictions), photos, device)
    result = result_of(trial, state, judged)
    run.write_result(result)
    write_report(run.path)
    return result


def _judge(run: RunFolder, split: Split, photos: ToJudge, device: str) -> dict[str, Any]:
    """Judges the bundle on the validation photos, keeps its predictions and fits its temperature."""
    judged = judge_photos(load_predictor(run.path, device), split.part("val"), photos)
    answers = judged.predictions
    write_predictions(run.predictions, answers)
    calibration = calibration_summary(answers.logits, answers.labels, groups=answers.groups)
    fit = calibration["temperature"], calibration["fitted_on_n"], calibration["temperature_note"]
    write_temperature(run.bundle, *fit)
    figures = {key: value for key, value in judged.figures().items() if key not in ("per_class", "confused_pairs")}
    return {"validation": figures, "calibration": calibration}
