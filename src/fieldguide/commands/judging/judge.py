"""Labelled photos through a predictor, to figures, for train and evaluate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from fieldguide.data.split.partition import Row, group_numbers
from fieldguide.deploy.answers import Answering
from fieldguide.deploy.ensemble import Ensemble
from fieldguide.errors import PhotosError, UsageError, counted
from fieldguide.evaluation.calibration import calibration_summary, log_loss, temperature_summary
from fieldguide.evaluation.comparison import in_groups
from fieldguide.evaluation.metrics import judge
from fieldguide.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Judged:
    """The output of a predictor for the readable labelled photos; file and reason for each of the others."""

    predictions: Predictions
    failed: tuple[dict[str, str], ...]

    def figures(self) -> dict[str, Any]:
        """As `evaluation.metrics.judge`, with `failed`; `loss` is without calibration.

        Accuracies do not depend on the temperature. The loss equals that of the training, if size, crop and flips at
        test time do.
        """
        answers = self.predictions
        found = judge(answers.probabilities(), answers.labels, answers.classes, answers.groups)
        # from the logits, because `judge` only sees probabilities, and clips those that round to 0
        return found | {"loss": log_loss(answers.logits, answers.labels), "failed": list(self.failed)}


def judge_photos(
    predictor: Answering,
    rows: Sequence[Row],
    photos: Mapping[str, Path | Image],
    advance: Callable[[int], None] = lambda _: None,
    is_enough: Callable[[int], bool] = lambda _: False,
) -> Judged:
    """The output of a predictor for photos (pixels or paths, by file) with classes that the model knows.

    `advance` is called with 1 after each photo; `is_enough` takes how many were judged, and ends it there. Raises
    PhotosError if none could be read, UsageError if the outputs of the model are not finite.
    """
    index = {name: place for place, name in enumerate(predictor.classes)}
    judged, labels, found, failed = [], [], [], []
    answers = predictor.logits(photos[row.file] for row in rows)  # not all at once, for some are images
    for done, (row, (_, logits, reason)) in enumerate(zip(rows, answers, strict=True)):
        if is_enough(done):
            break
        advance(1)
        if logits is None:
            failed.append({"file": row.file, "reason": reason})
            continue
        judged.append(row)
        labels.append(index[row.class_name])
        found.append(logits)
    assert rows, "there is nothing to judge"
    if not found:
        first = f"{failed[0]['file']}: {failed[0]['reason']}"
        raise PhotosError(f"none of the {len(rows):,} photos can be read, such as {first}")
    stacked = np.stack(found)  # (photos, classes)
    broken = int((~np.isfinite(stacked)).any(axis=1).sum())
    if broken:
        raise UsageError(f"the model's outputs for {counted(broken, 'photo')} are not finite numbers; train it again")
    files, numbers = tuple(row.file for row in judged), group_numbers(judged)
    predictions = Predictions(files, np.array(labels, dtype=np.int64), stacked, predictor.classes, numbers)
    return Judged(predictions, tuple(failed))


def calibration_of(
    predictor: Answering, predictions: Predictions, part: str, *, fitted_on_these: bool | None
) -> dict[str, Any]:
    """The effect of the bundle's temperature on the photos of a part, as `evaluation.calibration.temperature_summary`.

    `fitted_on_these`: whether the temperature was fitted on any of them; None if unknown. Unless False, figures after
    calibration are cross-fitted: each photo with a temperature fitted without it. For an ensemble, which fits none,
    this is about the temperatures of its members.
    """
    logits, labels, groups = predictions.logits, predictions.labels, predictions.groups
    was = "may have been" if fitted_on_these is None else "was"
    if isinstance(predictor, Ensemble):
        words = f"on the {part} photos, as the mean of calibrated members"
        if fitted_on_these is not False:
            words += f"; a member's temperature {was} fitted on some of these photos, so this is optimistic"
        return temperature_summary(1.0, logits, labels, words, groups)
    if predictor.is_calibrated_inside:
        words = f"on the {part} photos, with the temperature inside the export"
        return temperature_summary(1.0, logits, labels, words, groups)
    if not predictor.is_calibrated:
        return temperature_summary(1.0, logits, labels, "not calibrated: the bundle has no temperature", groups)
    if fitted_on_these is False:
        words = f"on the {part} photos, with the temperature fitted on the run's validation photos"
        return temperature_summary(predictor.temperature, logits, labels, words, groups)
    summary = calibration_summary(logits, labels, groups=groups)
    del summary["temperature_note"], summary["fitted_on_n"]  # of a fit on these photos, not of the bundle's
    judged = f"the temperature {was} fitted on these photos, so {summary['judged']}"
    return summary | {"temperature": predictor.temperature, "judged": judged}


def interval_and_n(figures: Mapping[str, Any]) -> str:
    """The interval of an accuracy, with the number of photos and groups."""
    bounds = f"95 %: {figures['accuracy_low']:.4f} to {figures['accuracy_high']:.4f}"
    return f"{bounds}, n = {figures['images']:,}{in_groups(figures.get('groups'))}"


def macro_sentence(figures: Mapping[str, Any]) -> str:
    """Macro accuracy with its interval."""
    return (
        f"macro accuracy {figures['macro_accuracy']:.4f} "
        f"(95 %: {figures['macro_accuracy_low']:.4f} to {figures['macro_accuracy_high']:.4f})"
    )


def calibration_sentence(calibration: Mapping[str, Any]) -> str:
    """The effect of calibration, how it was measured, and any doubt about the fit."""
    note = calibration.get("temperature_note")
    if note is None and calibration["log_loss_after"] > calibration["log_loss_before"]:
        note = "too few validation photos to calibrate reliably: on other photos it made the loss worse"
    return (
        f"temperature {calibration['temperature']:.4g}: log loss {calibration['log_loss_before']:.4f} before and "
        f"{calibration['log_loss_after']:.4f} after, calibration error {calibration['ece_before']:.4f} before and "
        f"{calibration['ece_after']:.4f} after ({calibration['judged']})" + (f"; {note}" if note else "")
    )
