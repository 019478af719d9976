"""Which run beats which on the same photos, and whether that is significant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from fieldguide.errors import UsageError, counted
from fieldguide.evaluation.comparison import Comparison, compare_predictions
from fieldguide.evaluation.predictions import Predictions, read_predictions
from fieldguide.run_folder import RunFolder

ALL_PAIRS_UP_TO = 4  # runs; with more, the best is compared with the others
MOST_PAIRS = 10


@dataclass(frozen=True)
class Pair:
    """Two runs on the same validation photos.

    `a` and `b` are their names; `sentence` is the verdict in words, with what the photos chose.
    """

    a: str
    b: str
    comparison: Comparison
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data: `a`, `b`, the comparison's attributes, `shown` and `sentence`."""
        return {"a": self.a, "b": self.b, **self.comparison.as_dict(), "sentence": self.sentence}


@dataclass(frozen=True)
class Pairs:
    """Runs compared in pairs.

    Attributes:
        pairs: in the order of the runs; or the best run against the others, better ones first.
        remarks: what is left out, and a warning about several tests.
    """

    pairs: tuple[Pair, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """The verdicts, then the remarks."""
        return [pair.sentence for pair in self.pairs] + list(self.remarks)


@dataclass(frozen=True)
class _Kept:
    name: str
    accuracy: float
    predictions: Predictions


def pair_runs(runs: Sequence[tuple[str, RunFolder, Mapping[str, Any]]]) -> Pairs:
    """Compares the validation predictions of runs in pairs; of a cross-validation, the out-of-fold predictions.

    Up to 4 runs: all pairs. More: the best with the others, at most 10 pairs. A run without predictions, or with
    predictions of other photos, is left out with a remark.

    Args:
        runs: name, folder and `result.json` of each.
    """
    if len(runs) < 2:
        return Pairs()
    kept, without, remarks = [], [], []
    for name, folder, result in runs:
        file = next((file for file in (folder.predictions, folder.out_of_fold_logits) if file.exists()), None)
        if file is None:
            without.append(name)
            continue
        try:
            kept.append(_Kept(name, result["validation"]["accuracy"], read_predictions(file)))
        except UsageError as error:
            remarks.append(f"{name} is not compared: {error}")
    if without:
        verb = "is" if len(without) == 1 else "are"
        remarks.append(
            f"{', '.join(without)} {verb} not compared: no predictions.npz or out_of_fold.npz (made by an earlier "
            "version, or removed)"
        )
    chosen, left_out = _choose(kept)
    chose = what_was_chosen([result for _, _, result in runs]) + (["run"] if len(kept) > ALL_PAIRS_UP_TO else [])
    pairs = []
    for a, b in chosen:
        try:
            comparison = compare_predictions(a.predictions, b.predictions, a.name, b.name)
        except UsageError as error:
            remarks.append(str(error))
            continue
        pairs.append(Pair(a.name, b.name, comparison, comparison.sentence(a.name, b.name, chose)))
    if left_out:
        remarks.append(f"{counted(left_out, 'run')} with lower accuracy not compared with {chosen[0][0].name}")
    if len(pairs) > 1:
        remarks.append(f"{len(pairs)} tests, each wrong 1 time in 20 by chance; not corrected for their number")
    return Pairs(tuple(pairs), tuple(remarks))


def _choose(kept: Sequence[_Kept]) -> tuple[list[tuple[_Kept, _Kept]], int]:
    """The pairs to compare, and the number of runs in no pair."""
    if len(kept) <= ALL_PAIRS_UP_TO:
        return list(combinations(kept, 2)), 0
    best, *others = sorted(kept, key=lambda run: -run.accuracy)
    return [(best, other) for other in others[:MOST_PAIRS]], max(0, len(others) - MOST_PAIRS)


def what_was_chosen(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the validation photos of these runs chose: the epoch, and the round if there were rounds."""
    kinds = {stage["kind"] for result in results for stage in result.get("stages", ())}
    return ["epoch"] + (["round"] if "round" in kinds else [])
