"""Two models on the same photos: their difference, and whether it is significant."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from fieldguide.errors import UsageError, counted
from fieldguide.evaluation.clusters import flip_test, joined_groups, share_interval, worth
from fieldguide.evaluation.intervals import paired_difference
from fieldguide.evaluation.predictions import Predictions

LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Two models, A and B, judged on the same photos.

    Attributes:
        n: photos.
        accuracy_a: share of them that A has right; `accuracy_a_low` and `accuracy_a_high` bound it (95 %, Wilson).
        accuracy_b: the same of B.
        only_a, only_b: photos that only A, or only B, has right.
        difference: `accuracy_a` - `accuracy_b`; `difference_low` and `difference_high` bound it (95 %, Tango).
        p_value: McNemar's exact test, two-sided; with groups, their sign-flip test (`clusters.flip_test`).
        groups: how many, if photos belong together; intervals and test account for them. None: single photos.
    """

    n: int
    accuracy_a: float
    accuracy_a_low: float
    accuracy_a_high: float
    accuracy_b: float
    accuracy_b_low: float
    accuracy_b_high: float
    only_a: int
    only_b: int
    difference: float
    difference_low: float
    difference_high: float
    p_value: float
    groups: int | None = None

    @property
    def shown(self) -> bool:
        """Whether the difference is significant: the test rejects at 5 %, and the interval excludes 0.

        For single photos McNemar's exact test decides: if it rejects, the interval excludes 0 too, but not the other
        way round. With groups the interval can be stricter: it accounts for few groups, and never counts photos as
        more than as many independent ones, as the test does if all groups differ alike.
        """
        return self.p_value < LEVEL and not self.difference_low <= 0 <= self.difference_high

    @property
    def test(self) -> str:
        """The name of the test behind the p-value."""
        return "McNemar" if self.groups is None else "sign-flip test of groups"

    def sentence(self, name_a: str, name_b: str, chose: Sequence[str] = ()) -> str:
        """The verdict in words, from the view of the model that is better on these photos.

        `chose` is what these photos also chose ("epoch", "round", "recipe"); the sentence then says so.
        """
        better, other, low, high = name_a, name_b, self.difference_low, self.difference_high
        if self.only_b > self.only_a:
            better, other, low, high = name_b, name_a, -high, -low
        gain, low_points, high_points = in_points(abs(self.difference), low, high)
        test = f"{self.test} p {p_text(self.p_value)}"
        note = selection_note(chose)
        sample = f"n = {self.n:,}" + in_groups(self.groups)
        if self.shown:
            points = f"{gain} points ({low_points} to {high_points}; {sample}, {test})"
            return f"{better} beats {other} by {points}{note}"
        return (
            f"{better} against {other}: not significant at {sample} "
            f"(difference {gain} points, {low_points} to {high_points}; {test}){note}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data: all attributes and `shown`."""
        return {**asdict(self), "shown": self.shown}


def compare_predictions(a: Predictions, b: Predictions, name_a: str = "A", name_b: str = "B") -> Comparison:
    """Compares two models on the same photos, paired by file name.

    Classes are matched by name, so their order may differ. Messages call the models `name_a` and `name_b`.

    Raises:
        UsageError: not the same photos, or not the same classes for them, or no photos; says how many differ.
    """
    problem = _problem_with_pairing(a, b, name_a, name_b)
    if problem:
        raise UsageError(problem)
    row_in_b = {file: row for row, file in enumerate(b.files)}
    right_a = a.predicted() == a.labels
    right_b = (b.predicted() == b.labels)[[row_in_b[file] for file in a.files]]
    groups = a.groups
    if groups is None and b.groups is not None:
        groups = b.groups[[row_in_b[file] for file in a.files]]
    n, correct_a, correct_b = len(a.files), int(right_a.sum()), int(right_b.sum())
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    bounds, p_value, joined = paired_difference(only_a, only_b, n), mcnemar_exact(only_a, only_b), joined_groups(groups)
    if groups is not None and joined is not None:
        differences = right_a.astype(np.int64) - right_b
        each = worth(differences.astype(np.float64), groups) / n  # the weight of a photo
        bounds = paired_difference(only_a * each, only_b * each, n * each) if each else (-1.0, 1.0)
        p_value = flip_test(differences, groups)
    return Comparison(
        n,
        correct_a / n,
        *share_interval(right_a, groups),
        correct_b / n,
        *share_interval(right_b, groups),
        only_a,
        only_b,
        (only_a - only_b) / n,
        *bounds,
        p_value,
        joined,
    )


def _problem_with_pairing(a: Predictions, b: Predictions, name_a: str, name_b: str) -> str | None:
    classes_a, classes_b = (
        {file: p.classes[label] for file, label in zip(p.files, p.labels.tolist(), strict=True)} for p in (a, b)
    )
    missing, added = classes_a.keys() - classes_b.keys(), classes_b.keys() - classes_a.keys()
    if missing or added:
        return (
            f"{name_a} and {name_b} were not evaluated on the same photos: {len(missing)} only in {name_a}, "
            f"{len(added)} only in {name_b} (such as {min(missing | added)}); compare runs that judged all of one split"
        )
    changed = [file for file in a.files if classes_a[file] != classes_b[file]]
    if changed:
        return (
            f"{len(changed)} photos have different classes in {name_a} and {name_b} (such as {changed[0]}); "
            "train or evaluate both with the same labels"
        )
    return None if a.files else f"{name_a} and {name_b} have no evaluated photos"


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """McNemar's exact two-sided p-value (McNemar 1947; the binomial test of Agresti 2013, section 11.1).

    Takes the pairs in which only the first, and only the second, is right; 1 if no pair differs.
    """
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def in_points(*shares: float) -> list[str]:
    """Shares as percentage points: one decimal, more if one that is not 0 would round to 0."""
    for decimals in (1, 2, 3, 4):
        texts = [f"{100 * share:.{decimals}f}" for share in shares]
        if all(float(text) != 0 or share == 0 for text, share in zip(texts, shares, strict=True)):
            break
    return [text.removeprefix("-") if float(text) == 0 else text for text in texts]


def p_text(p_value: float) -> str:
    """A p-value with its sign, such as `= 0.016`; never rounded onto or across 0.05."""
    if p_value < 0.001:
        return "< 0.001"
    for digits in (2, 3, 4, 5):
        text = f"{p_value:.{digits}g}"
        if float(text) != LEVEL or math.isclose(p_value, LEVEL, rel_tol=1e-5):
            break
    return f"= {text}"


def in_groups(groups: int | None) -> str:
    """The text after `n = 300` if photos belong together, else empty."""
    return "" if groups is None else f" in {counted(groups, 'group')}"


def selection_note(chose: Sequence[str]) -> str:
    """The note behind a figure whose photos also chose something, such as the epoch; else empty."""
    if not chose:
        return ""
    return f"; these photos also chose {' and '.join(f'the {what}' for what in chose)}, so the figure is optimistic"
