"""An exported model held against the trained one on the same photos."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.commands.exporting.photos import ProofPhotos
from fieldguide.commands.judging.judge import judge_photos
from fieldguide.deploy.answers import Answering
from fieldguide.errors import UsageError, counted, listing
from fieldguide.evaluation.comparison import Comparison, compare_predictions
from fieldguide.evaluation.predictions import Predictions
from fieldguide.evaluation.reliability import expected_calibration_error

CLEAR = 0.01  # between the first two probabilities; below, rounding may decide
LEAST_SAME = 0.999  # of the clear photos
MOST_NAMED = 10
MOST_LOST = 0.01  # accuracy that a quantised model may have lost at most, by the bound of its interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """How far probabilities may differ: of one photo, and the mean over the photos of each one's largest difference."""

    largest: float
    mean: float


# Measured differences are far below: docs/export.md. What is left out of a graph shows far above.
BOUNDS = {"fp32": Bounds(0.01, 0.0005), "fp16": Bounds(0.02, 0.001)}


@dataclass(frozen=True)
class Answers:
    """A model's probabilities for labelled photos; `failed` have file and reason."""

    predictions: Predictions
    probabilities: Floats
    failed: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Proof:
    """A comparison of an export with its original.

    Attributes:
        figures: plain data, as in `export.json`.
        problems: why it is refused, as sentences; empty if it is accepted.
        worst: the photos that differ most, as lines.
    """

    figures: dict[str, Any]
    problems: tuple[str, ...]
    worst: tuple[str, ...]


def answers_of(predictor: Answering, photos: ProofPhotos, advance: Callable[[int], None] = lambda _: None) -> Answers:
    """Predicts the photos.

    Raises:
        PhotosError: none can be read.
        UsageError: an answer is not finite.
    """
    judged = judge_photos(predictor, photos.rows, photos.paths, advance)
    return Answers(judged.predictions, judged.predictions.probabilities(predictor.temperature), judged.failed)


def prove(
    original: Answers, predictor: Answering, photos: ProofPhotos, variant: str, advance: Callable[[int], None]
) -> Proof:
    """Predicts the photos by an export, and compares it.

    Args:
        original: the trained model's answers.
        predictor: the export in its own runtime.
        variant: `fp32`, `fp16` or `int8`, which decides what may differ.
    """
    try:
        return compared(original, answers_of(predictor, photos, advance), variant)
    except UsageError as error:
        return Proof({}, (f"its answers cannot be compared: {error}",), ())


def compared(original: Answers, exported: Answers, variant: str) -> Proof:
    """Compares answers; see `prove`."""
    if set(original.predictions.classes) != set(exported.predictions.classes):
        return Proof({}, ("it has other classes",), ())
    if original.predictions.files != exported.predictions.files:
        return Proof({}, ("it reads other photos than the trained model",), ())
    comparison = compare_predictions(original.predictions, exported.predictions, "the trained model", "the export")
    order = [exported.predictions.classes.index(name) for name in original.predictions.classes]
    before, after = original.probabilities, exported.probabilities[:, order]
    first, second = before.argmax(axis=1), after.argmax(axis=1)
    largest = np.abs(before - after).max(axis=1)  # (photos,)
    two = np.sort(before, axis=1)[:, -2:]
    is_clear, is_same = two[:, 1] - two[:, 0] > CLEAR, first == second
    figures = {
        "images": len(first),
        "failed": list(original.failed),
        "same": int(is_same.sum()),
        "clear": int(is_clear.sum()),
        "same_of_clear": int((is_same & is_clear).sum()),
        "largest_difference": float(largest.max()),
        "mean_difference": float(largest.mean()),
        "calibration_error": _calibration(original.predictions.labels, before),
        "calibration_error_exported": _calibration(original.predictions.labels, after),
        "comparison": comparison.as_dict(),
    }
    problems = _problems(figures, comparison, variant)
    classes = original.predictions.classes
    names = original.predictions.files
    order_of_worst = np.lexsort((-largest, is_same))[:MOST_NAMED]
    worst = [
        f"{names[i]}: {classes[first[i]]} {before[i, first[i]]:.4f}, "
        f"exported {classes[second[i]]} {after[i, second[i]]:.4f}"
        for i in order_of_worst
        if largest[i] > 0
    ]
    return Proof(figures, tuple(problems), tuple(worst))


def _calibration(labels: npt.NDArray[np.int64], probabilities: Floats) -> float:
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    return float(expected_calibration_error(confidence, correct))


def _problems(figures: dict[str, Any], comparison: Comparison, variant: str) -> list[str]:
    """Why an export is refused."""
    problems = []
    if comparison.shown and comparison.difference > 0:
        problems.append(f"it is less accurate: {comparison.sentence('the trained model', 'the export')}")
    if variant not in BOUNDS:  # quantised: other answers are expected, fewer right ones are not
        if comparison.difference_high >= MOST_LOST:
            problems.append(
                f"its accuracy may be up to {100 * comparison.difference_high:.2f} points lower (95 %), allowed is "
                f"under {100 * MOST_LOST:g}; more proof photos would narrow this"
            )
        return problems
    if figures["same_of_clear"] < LEAST_SAME * figures["clear"]:
        other = figures["clear"] - figures["same_of_clear"]
        problems.append(f"another first class for {other:,} of {counted(figures['clear'], 'clear photo')}")
    bounds = BOUNDS[variant]
    if figures["largest_difference"] > bounds.largest:
        problems.append(f"a probability differs by {figures['largest_difference']:.4f}, allowed is {bounds.largest:g}")
    if figures["mean_difference"] > bounds.mean:
        problems.append(
            f"probabilities differ by {figures['mean_difference']:.2g} on average, allowed is {bounds.mean:g}"
        )
    return problems


def tolerance(proven: Sequence[dict[str, Any]]) -> float:
    """How far probabilities by other code may be from the trained model's: twice what these proofs measured."""
    return max(0.001, *(float(f"{2 * figures['largest_difference']:.1g}") for figures in proven))


def refusal(name: str, proof: Proof) -> str:
    """The message of a proof that failed."""
    why = "; ".join(proof.problems)
    worst = f"\nThe photos that differ most:\n{listing(proof.worst)}" if proof.worst else ""
    return f"{name} does not answer as the trained model: {why}. No export is left{worst}"


def sentence(name: str, figures: dict[str, Any]) -> str:
    """A proof that held, in a line."""
    found = figures["comparison"]
    return (
        f"{name}: same first class for {figures['same']:,} of {counted(figures['images'], 'photo')}, probabilities "
        f"differ by at most {figures['largest_difference']:.2g} (mean {figures['mean_difference']:.2g}); accuracy "
        f"{found['accuracy_b']:.4f}, trained model {found['accuracy_a']:.4f}"
    )
