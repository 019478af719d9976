"""Cross-validation's folds: every photo is held out once, and what belongs together is held out together."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fieldguide.data.split.partition import Row, Split, whole_groups
from fieldguide.errors import PhotosError, counted, listing
from fieldguide.storage import csv_line

HEADER = ("file", "class", "fold", "content_hash")
DEALT = ("train", "val")


@dataclass(frozen=True)
class Folds:
    """One split a fold.

    Attributes:
        splits: each with its fold as `val` and all other folds as `train`; test and excluded photos as they were.
        remarks: sentences that a person should read.
    """

    splits: tuple[Split, ...]
    remarks: tuple[str, ...]

    def place_of(self) -> dict[str, str]:
        """Of each file the fold that holds it out, from 1; else `train` (in every fold), `test` or `excluded`."""
        found = {row.file: row.part for row in self.splits[0].rows}
        for number, split in enumerate(self.splits, start=1):
            found |= {row.file: str(number) for row in split.part("val")}
        return found


def make_folds(split: Split, *, seed: int, folds: int, groups: Sequence[Sequence[str]] = ()) -> Folds:
    """Deals the training and validation photos of a split into folds.

    Stratified: the folds' counts of a class differ by one at most where each photo stands for itself. Photos of the
    same content (SHA-256) and of one group are never in two folds. A fold never takes the last photos of a class:
    those stay in training in every fold, since no model can be asked for a class that it was never shown.

    Args:
        split: every photo, with unreadable and leaking ones dealt with; its validation photos are dealt anew.
        seed: of the dealing.
        folds: at least 2.
        groups: names of files that belong together, near duplicates or the frames of a burst.

    Raises:
        PhotosError: fewer photos (or groups of them) than folds.
    """
    rows = [row for row in split.rows if row.part in DEALT]
    units = whole_groups(sorted(rows, key=lambda row: row.file), groups)
    dealt = _deal(list(units.values()), seed, folds)
    empty = folds - len(set(dealt.values()))
    if empty:
        raise PhotosError(
            f"split.folds is {folds}, but {counted(empty, 'fold')} would hold out no photo; "
            f"add photos or set split.folds to {max(2, folds - empty)}"
        )
    held_out = {row.file: replace(row, part="val") for row in rows if row.file in dealt}
    others = [replace(row, part="train") if row.part in DEALT else row for row in split.rows]
    splits = tuple(
        Split(tuple(held_out[row.file] if dealt.get(row.file) == number else row for row in others))
        for number in range(folds)
    )
    return Folds(splits, tuple(_remarks(rows, dealt, folds)))


def folds_csv(folds: Folds) -> str:
    """Which fold holds out which photo, see `Folds.place_of`; the same text for the same folds."""
    place = folds.place_of()
    rows = ((row.file, row.class_name, place[row.file], row.content_hash) for row in folds.splits[0].rows)
    return "".join(map(csv_line, (HEADER, *rows)))


def _deal(units: Sequence[list[Row]], seed: int, folds: int) -> dict[str, int]:
    """The fold of each file, from 0; files that have to stay in training are not in it.

    Large units first, then class by class, each into the fold that has fewest photos of its classes: what makes the
    sum of the squared counts grow least. Of equal folds, the one with fewest photos; of those, one that the seed draws.
    """
    draw = np.random.default_rng([seed, folds])
    total = Counter(row.class_name for unit in units for row in unit)
    held: list[Counter[str]] = [Counter() for _ in range(folds)]
    photos = [0] * folds
    dealt: dict[str, int] = {}
    shuffled = [units[place] for place in draw.permutation(len(units))]
    for unit in sorted(shuffled, key=lambda unit: (-len(unit), unit[0].class_name)):
        sizes = Counter(row.class_name for row in unit)
        possible = [
            fold for fold in range(folds) if all(held[fold][name] + size < total[name] for name, size in sizes.items())
        ]
        if not possible:
            continue
        costs = {
            fold: (sum(held[fold][name] * size for name, size in sizes.items()), photos[fold]) for fold in possible
        }
        cheapest = min(costs.values())
        chosen = int(draw.choice([fold for fold in possible if costs[fold] == cheapest]))
        held[chosen].update(sizes)
        photos[chosen] += len(unit)
        dealt |= {row.file: chosen for row in unit}
    return dealt


def _remarks(rows: Sequence[Row], dealt: dict[str, int], folds: int) -> list[str]:
    photos = Counter(row.class_name for row in rows)
    folds_of: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row.file in dealt:
            folds_of[row.class_name].add(dealt[row.file])
    found = []
    single = sorted(name for name, count in photos.items() if count == 1)
    if single:
        found.append(f"classes with one photo, which stays in training and is never validated: {', '.join(single)}")
    kept = [row.file for row in rows if row.file not in dealt and row.class_name not in single]
    if kept:
        found.append(
            f"{counted(len(kept), 'photo')} in training in every fold and never validated, because a class would "
            f"have no training photo while they are held out together:\n{listing(kept)}"
        )
    rare = [f"{name} (in {len(folds_of[name])})" for name in sorted(folds_of) if len(folds_of[name]) < folds]
    if rare:
        found.append(
            f"classes too small for {folds} folds, spread as far as they go, missing in the others: {', '.join(rare)}"
        )
    return found
