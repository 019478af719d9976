"""Which photo comes when in an epoch: a function of (seed, epoch) alone, so that every batch can be made again."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from fieldguide.world.processes import part_of

Order = Literal["shuffled", "balanced", "stratified"]
SHUFFLED: Order = "shuffled"


class Turn(NamedTuple):
    """A photo's turn in an epoch."""

    photo: int  # its place among the training photos
    draw: int = 0  # how often it came before in this epoch; its augmentation depends on it


class Share(NamedTuple):
    """What one of several processes takes of each batch."""

    number: int = 0
    of: int = 1
    mixes: bool = False  # whether a photo needs the one before it in the batch, its partner (`training/mixing.py`)

    def taken(self, batch: list[Turn]) -> list[Turn]:
        """Its part of a batch, after one photo of another process if it mixes, or if its part is empty."""
        start, stop = part_of(len(batch), self.number, self.of)
        if self.of == 1 or (start < stop and not self.mixes):
            return batch[start:stop]
        return [batch[start - 1], *batch[start:stop]]


WHOLE = Share()


def cut(order: Sequence[int], batch_size: int) -> list[list[int]]:
    """Cuts an epoch into batches; a last batch of one joins the one before, since batch statistics need two."""
    batches = [list(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] += last
    return batches


def epoch_order(
    labels: Sequence[int], batch_size: int, seed: int, epoch: int, *, order: Order = SHUFFLED
) -> list[list[Turn]]:
    """The batches of an epoch, counted over the whole run; the last may have fewer photos, or one more.

    Args:
        labels: (photos,) indices of classes.
        order: `balanced` draws each class equally often, in place of each photo once (the epoch is as long; see
            `_balanced`). `stratified` begins with a photo of each class, and then has the classes in proportion, so
            that an epoch that is cut short has seen what the whole would have.
    """
    chance = np.random.default_rng([seed, epoch])
    if order != "balanced":
        drawn = chance.permutation(len(labels)).tolist()
        places = in_proportion(labels, drawn) if order == "stratified" else drawn
        return [[Turn(place) for place in batch] for batch in cut(places, batch_size)]
    seen: Counter[int] = Counter()
    batches = []
    for batch in cut(_balanced(labels, chance), batch_size):
        turns = []
        for place in batch:
            turns.append(Turn(place, seen[place]))
            seen[place] += 1
        batches.append(turns)
    return batches


def in_proportion(labels: Sequence[Hashable], drawn: Sequence[int]) -> list[int]:
    """The places `drawn`, in an order that begins with a photo of each class and goes on in proportion."""
    images, before = Counter(labels), Counter[Hashable]()
    shares = []
    for place in drawn:
        label = labels[place]
        shares.append(before[label] / images[label])
        before[label] += 1
    return [place for _, place in sorted(zip(shares, drawn, strict=True), key=lambda pair: pair[0])]


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
