"""Which photo comes when in an epoch: a function of (seed, epoch) alone, so that every batch can be made again."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Turn(NamedTuple):
    """A photo's turn in an epoch."""

    photo: int  # its place among the training photos
    draw: int = 0  # how often it came before in this epoch; its augmentation depends on it


def cut(order: Sequence[int], batch_size: int) -> list[list[int]]:
    """Cuts an epoch into batches; a last batch of one joins the one before, since batch statistics need two."""
    batches = [list(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] += last
    return batches


def epoch_order(
    labels: Sequence[int], batch_size: int, seed: int, epoch: int, *, balanced: bool = False
) -> list[list[Turn]]:
    """The batches of an epoch, counted over the whole run; the last may have fewer photos, or one more.

    `labels` are (photos,) indices of classes. `balanced` draws each class equally often, in place of each photo once.
    The epoch is as long; its photos come from `_balanced`.
    """
    chance = np.random.default_rng([seed, epoch])
    if not balanced:
        return [[Turn(place) for place in batch] for batch in cut(chance.permutation(len(labels)).tolist(), batch_size)]
    seen: Counter[int] = Counter()
    batches = []
    for batch in cut(_balanced(labels, chance), batch_size):
        turns = []
        for place in batch:
            turns.append(Turn(place, seen[place]))
            seen[place] += 1
        batches.append(turns)
    return batches


def _balanced(labels: Sequence[int], chance: np.random.Generator) -> list[int]:
    """As many places as there are labels, no class more than one turn ahead of another (class-aware sampling).

    Within a class every photo comes once before one comes again, so the photos of a class differ by one turn at most;
    of a class with more photos than turns, chance chooses anew in each epoch.
    """
    of_class: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        of_class.setdefault(label, []).append(place)
    classes = sorted(of_class)
    each, left = divmod(len(labels), max(1, len(classes)))
    one_more = set(chance.permutation(len(classes))[:left].tolist())
    drawn: list[int] = []
    for number, label in enumerate(classes):
        photos, turns = of_class[label], each + (number in one_more)
        whole, rest = divmod(turns, len(photos))
        drawn += photos * whole + [photos[place] for place in chance.permutation(len(photos))[:rest].tolist()]
    return [drawn[place] for place in chance.permutation(len(drawn)).tolist()]
