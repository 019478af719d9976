"""Cross-validation folds: each photo is held out once; photos that belong together are held out together."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fieldguide.data.look.findings import Remark, Topic
from fieldguide.data.split.make import single
from fieldguide.data.split.partition import Row, Split, whole_groups
from fieldguide.errors import PhotosError, counted, listing
from fieldguide.storage import csv_line

HEADER = ("file", "class", "fold", "content_hash")
DEALT = ("train", "val")


@dataclass(frozen=True)
class Folds:
    """One split per fold."""

    splits: tuple[Split, ...]  # each has its fold as `val`, all others as `train`; test and excluded photos stay
    remarks: tuple[Remark, ...]  # what a person should read

    def place_of(self) -> dict[str, str]:
        """The fold that holds out each file, from 1; else `train` (in every fold), `test` or `excluded`."""
        found = {row.file: row.part for row in self.splits[0].rows}
        for number, split in enumerate(self.splits, start=1):
            found |= {row.file: str(number) for row in split.part("val")}
        return found


def make_folds(split: Split, *, seed: int, folds: int, groups: Sequence[Sequence[str]] = ()) -> Folds:
    """Deals the training and validation photos of a split into folds (at least 2).

    Stratified: without groups, the counts of a class differ by at most one between folds. Photos of the same content
    (SHA-256) or group (near duplicates, frames of a burst) are always in one fold. A fold never takes the last photos
    of a class. They stay in training in every fold, because a model cannot name a class that it has never seen.

    Raises PhotosError if there are fewer photos (or groups of them) than folds.
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
    """Which fold holds out which photo, see `Folds.place_of`; equal folds give equal text."""
    place = folds.place_of()
    rows = ((row.file, row.class_name, place[row.file], row.content_hash) for row in folds.splits[0].rows)
    return "".join(map(csv_line, (HEADER, *rows)))


def _deal(units: Sequence[list[Row]], seed: int, folds: int) -> dict[str, int]:
    """The fold of each file, from 0; files that must stay in training are missing.

    Large units come first, then class by class. Each goes into the fold where the sum of squared class counts grows
    least; of equal folds, into the one with fewest photos; of those, into one that the seed draws.
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


def _remarks(rows: Sequence[Row], dealt: dict[str, int], folds: int) -> list[Remark]:
    photos = Counter(row.class_name for row in rows)
    folds_of: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row.file in dealt:
            folds_of[row.class_name].add(dealt[row.file])
    alone = sorted(name for name, count in photos.items() if count == 1)
    found = [single(alone)] if alone else []
    kept = [row.file for row in rows if row.file not in dealt and row.class_name not in alone]
    if kept:
        words = (
            f"{counted(len(kept), 'photo')} in training in every fold and never validated: holding them out together "
            f"would leave a class without training photos:\n{listing(kept)}"
        )
        found.append(Remark(Topic.NOT_VALIDATED, words, tuple(kept)))
    rare = [f"{name} (in {len(folds_of[name])})" for name in sorted(folds_of) if len(folds_of[name]) < folds]
    if rare:
        words = f"classes too small for {folds} folds, so missing in some: {', '.join(rare)}"
        found.append(Remark(Topic.FEWER_THAN_FOLDS, words, tuple(rare)))
    return found
