"""Which run beats which on the same photos, and whether that is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from fieldguide.errors import UsageError, counted
from fieldguide.evaluation.comparison import Comparison, compare_predictions
from fieldguide.evaluation.predictions import Predictions, read_predictions
from fieldguide.run_folder import RunFolder

ALL_PAIRS_UP_TO = 4  # runs; of more, the best is compared with each other
MOST_PAIRS = 10


@dataclass(frozen=True)
class Pair:
    """Two runs on the same validation photos.

    Attributes:
        a: name of the first run.
        b: name of the second.
        comparison: the figures.
        sentence: the verdict in words, with what the photos chose.
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
    """Runs compared two by two.

    Attributes:
        pairs: in the order of the runs, or the best run against each other, the better ones first.
        remarks: sentences that a person needs to read them: what is left out, and that tests add up.
    """

    pairs: tuple[Pair, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """All of it, a sentence each."""
        return [pair.sentence for pair in self.pairs] + list(self.remarks)


@dataclass(frozen=True)
class _Kept:
    name: str
    accuracy: float
    predictions: Predictions


def pair_runs(runs: Sequence[tuple[str, RunFolder, Mapping[str, Any]]]) -> Pairs:
    """Pairs the predictions that runs kept for their validation photos; a cross-validation, the out-of-fold ones.

    Of up to 4 runs, each with each other; of more, the best with each other, at most 10 pairs. A run that has no
    predictions, or of other photos than the others, is said and left out.

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
            remarks.append(f"{name} is in no paired comparison: {error}")
    if without:
        verb = "is" if len(without) == 1 else "are"
        remarks.append(
            f"{', '.join(without)} {verb} in no paired comparison: there is no predictions.npz to pair by, nor "
            "the out_of_fold.npz of a cross-validation (trained by an earlier version, or taken away)"
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
        remarks.append(f"{counted(left_out, 'run')} with less accuracy not paired with {chosen[0][0].name}")
    if len(pairs) > 1:
        remarks.append(
            f"each of these {len(pairs)} tests rejects wrongly 1 time in 20; nothing corrects for their number"
        )
    return Pairs(tuple(pairs), tuple(remarks))


def _choose(kept: Sequence[_Kept]) -> tuple[list[tuple[_Kept, _Kept]], int]:
    """The pairs to compare, and how many runs are in none of them."""
    if len(kept) <= ALL_PAIRS_UP_TO:
        return list(combinations(kept, 2)), 0
    best, *others = sorted(kept, key=lambda run: -run.accuracy)
    return [(best, other) for other in others[:MOST_PAIRS]], max(0, len(others) - MOST_PAIRS)


def what_was_chosen(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the validation photos of these runs have chosen: the epoch, and the round where there were rounds."""
    kinds = {stage["kind"] for result in results for stage in result.get("stages", ())}
    return ["epoch"] + (["round"] if "round" in kinds else [])
