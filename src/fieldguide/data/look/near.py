"""Near duplicates: the same photo encoded again, resized, cut by up to 3 % a side, or squashed into a square.

Candidates are pairs whose perceptual hashes (pHash, 64 bits) differ in few bits; each is then confirmed by
laying the two prints over one another and comparing pixels, so that a class of look-alikes does not flood the
list. The thresholds were chosen on Caltech-101's photos by looking at the pairs (docs/check.md has the counts).
A mirrored, turned or recoloured copy is not a near duplicate here.
"""

import functools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from fieldguide.data.look.align import Agreement, Array, agreement, aligned, correlation, laid_over, still, worst_block
from fieldguide.data.look.facts import COLOUR_SIDE_PX, GRAY_SIDE_PX, Print
from fieldguide.data.look.groups import joined
from fieldguide.data.look.near_index import best_by_lists
from fieldguide.data.read.prefetch import prefetched

Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Prints = Mapping[int, Print]  # by place
MAX_HASH_BITS = 18  # 500 photos cut by up to 3 % a side differed from their originals by 16 bits at most
MAX_LOG_ASPECT = 0.09  # 6 % off one axis, and the rounding of a small photo
SQUARE_LOG_ASPECT = 0.01  # a square photo may be one of any shape, squeezed for a network
MAX_SQUASHED_BITS = 10  # prints are squeezed into squares themselves, so such a copy differs by its pixels alone
MIN_ROUGH_CORRELATION = 0.7
MOST_CANDIDATES = 8  # a photo's best ones of each part: a fixed camera makes thousands of look-alikes
MIN_CORRELATION = 0.85
MAX_COLOUR_DIFFERENCE = 36.0
MIN_DETAIL = 0.75
MAX_GRAY_DIFFERENCE = 28.0
DOUBTFUL_DETAIL = 0.6  # from here to the limits a pair is placed again, in full
DOUBTFUL_DIFFERENCE = 50.0
ROUGH_SIDE_PX = 16
ROWS_AT_ONCE = 512
MOST_COMPARED = 50_000  # photos that are each compared with each; of more, only those that look alike roughly
PAIRS_AT_ONCE = 128
DENSE_PAIRS_PER_PHOTO = 8
HANDFUL = 8
LARGE_SHARE = 0.05


@dataclass(frozen=True)
class NearPair:
    """Two photos that are nearly the same."""

    first: int
    second: int  # places in the list that was given, first < second
    distance: float  # 1 - correlation of their fine detail; 0 for the same pixels, at most 0.25


def near_pairs(
    prints: Sequence[Print | None],
    aspects: Sequence[float],
    advance: Callable[[float], None] = lambda _: None,
    parts: Sequence[Collection[str]] | None = None,
    is_late: Callable[[], bool] = lambda: False,
) -> list[NearPair]:
    """Finds near duplicates among prints of upright photos; flat ones and None (nothing to compare) are left out.

    Where `is_late`, asked now and then, it ends with those it has found.

    `aspects` are width / height, `parts` those that each photo is in, such as train and val (None: all in one part).
    A photo is compared with its best candidates of every part, so that thousands of look-alikes of its own part hide
    none of another.
    """
    compared = {place: made for place, made in enumerate(prints) if made is not None and not made.is_flat}
    places = np.array(list(compared), np.int64)
    if len(places) < 2:
        advance(1)
        return []
    of_part = np.ones((1, len(prints)), np.bool_)
    if parts is not None:
        of_part = np.array([[name in of_photo for of_photo in parts] for name in sorted(set().union(*parts))])
    own = np.array(aspects)[places]
    first, second = _candidates(list(compared.values()), own, of_part[:, places], is_late)
    advance(0.2 if len(first) else 1)
    batches = [
        (places[first[start : start + PAIRS_AT_ONCE]], places[second[start : start + PAIRS_AT_ONCE]])
        for start in range(0, len(first), PAIRS_AT_ONCE)
    ]
    found: list[NearPair] = []
    # One BLAS thread in each of ours: with more, they wait for one another, ten times as long as they work.
    with threadpool_limits(1):
        for done, pairs in enumerate(prefetched(batches, lambda batch: _confirmed(compared, *batch)), start=1):
            found += pairs
            advance(0.8 / len(batches))
            if done < len(batches) and is_late():
                break
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def groups_of(pairs: Sequence[NearPair], class_names: Sequence[str | None]) -> tuple[list[list[int]], list[list[int]]]:
    """Joins pairs to groups to keep together, and groups that hold over 5 % of a class (and a handful of its photos).

    The latter are look-alikes that one pair after the other has chained, to be named instead.
    """
    sizes = Counter(class_names)
    kept: list[list[int]] = []
    large: list[list[int]] = []
    for group in joined((pair.first, pair.second) for pair in pairs):
        of_class = Counter(class_names[place] for place in group)
        too_many = any(count > max(HANDFUL, LARGE_SHARE * sizes[name]) for name, count in of_class.items())
        (large if too_many else kept).append(sorted(group))
    return kept, large


def _candidates(
    prints: Sequence[Print],
    aspects: npt.NDArray[np.float64],
    of_part: Flags,
    is_late: Callable[[], bool] = lambda: False,
) -> tuple[Indices, Indices]:
    """Pairs (first < second) that hash, shape and a rough look do not tell apart."""
    hashes = np.array([made.phash for made in prints], np.uint64)
    shape = np.log(aspects)
    rough = _rough(prints)
    if len(prints) > MOST_COMPARED:
        pairs_of = functools.partial(_possible_pairs, hashes, shape)
        found = best_by_lists(rough, of_part, pairs_of, MIN_ROUGH_CORRELATION, MOST_CANDIDATES, is_late)
        return _each_once(found)
    # A block of rows at a time bounds the memory.
    pairs: list[Indices] = []
    for start in range(0, len(prints), ROWS_AT_ONCE):
        if pairs and is_late():
            break
        pairs.append(_best_of_block(hashes, shape, rough, of_part, start))
    return _each_once(np.concatenate(pairs))


def _each_once(pairs: Indices) -> tuple[Indices, Indices]:
    both = np.unique(np.sort(pairs, axis=1), axis=0)
    return both[:, 0], both[:, 1]


def _rough(prints: Sequence[Print]) -> Array:
    """Gray means of 16 x 16 fields, of mean 0 and length 1: (photos, 256)."""
    fields = np.empty((len(prints), ROUGH_SIDE_PX**2), np.float32)
    for place, made in enumerate(prints):
        fields[place] = _means(made.gray, ROUGH_SIDE_PX).ravel()
    fields -= fields.mean(1, keepdims=True)
    fields /= np.maximum(np.linalg.norm(fields, axis=1, keepdims=True), 1e-6)
    return fields


def _best_of_block(
    hashes: npt.NDArray[np.uint64], shape: npt.NDArray[np.float64], rough: Array, of_part: Flags, start: int
) -> Indices:
    """The `MOST_CANDIDATES` best of each part, for each photo of a block of rows: (pairs, 2).

    Row by row: of a fixed camera's frames nearly all pairs are possible, and their list would take gigabytes.
    """
    rows = range(start, min(start + ROWS_AT_ONCE, len(hashes)))
    possible = np.stack([_possible(hashes, shape, row) for row in rows])  # (rows, photos)
    is_dense = np.count_nonzero(possible) >= DENSE_PAIRS_PER_PHOTO * len(rough)
    every = rough[start : start + ROWS_AT_ONCE] @ rough.T if is_dense else None
    found = []
    for row, others in zip(rows, map(np.flatnonzero, possible), strict=True):
        alike = _likeness(rough, row, others) if every is None else every[row - start, others]
        best = np.concatenate([_best(others[own], alike[own]) for own in of_part[:, others]])
        found.append(np.column_stack([np.full(len(best), row), best]))
    return np.concatenate(found)


def _possible(hashes: npt.NDArray[np.uint64], shape: npt.NDArray[np.float64], row: int) -> Flags:
    """(photos,) which of them hash and shape do not tell apart from one."""
    bits = np.bitwise_count(hashes ^ hashes[row])
    alike = np.abs(shape[row] - shape) <= MAX_LOG_ASPECT
    is_square = np.abs(shape) <= SQUARE_LOG_ASPECT
    squashed = (bits <= MAX_SQUASHED_BITS) & (is_square | is_square[row])
    found: Flags = ((bits <= MAX_HASH_BITS) & alike) | squashed
    found[row] = False
    return found


def _possible_pairs(
    hashes: npt.NDArray[np.uint64], shape: npt.NDArray[np.float64], first: Indices, second: Indices
) -> Flags:
    """(pairs,) as `_possible`, pair by pair."""
    bits = np.bitwise_count(hashes[first] ^ hashes[second])
    alike = np.abs(shape[first] - shape[second]) <= MAX_LOG_ASPECT
    is_square = np.abs(shape) <= SQUARE_LOG_ASPECT
    found: Flags = ((bits <= MAX_HASH_BITS) & alike) | (
        (bits <= MAX_SQUASHED_BITS) & (is_square[first] | is_square[second])
    )
    return found


def _likeness(rough: Array, row: int, others: Indices) -> Array:
    """The rough looks' correlation, pair by pair: where few are wanted, quicker than a product of all."""
    return np.asarray(np.einsum("ij,ij->i", rough[np.full(len(others), row)], rough[others]), np.float32)


def _best(others: Indices, alike: Array) -> Indices:
    """The `MOST_CANDIDATES` that are most alike, of those that are at all; of equal ones, the first."""
    keep = alike >= MIN_ROUGH_CORRELATION
    others, alike = others[keep], alike[keep]
    if len(others) > MOST_CANDIDATES:
        keep = alike >= np.partition(alike, -MOST_CANDIDATES)[-MOST_CANDIDATES]
        others, alike = others[keep], alike[keep]
    return others[np.argsort(-alike, kind="stable")[:MOST_CANDIDATES]]


def _confirmed(prints: Prints, first: Indices, second: Indices) -> list[NearPair]:
    """The pairs of a batch whose pixels are equal, or agree once one is placed over the other."""
    is_equal = np.array([_has_equal_pixels(prints[i], prints[j]) for i, j in zip(first, second, strict=True)], np.bool_)
    equal = [NearPair(int(i), int(j), 0.0) for i, j in zip(first[is_equal], second[is_equal], strict=True)]
    return equal + _agreed(prints, first[~is_equal], second[~is_equal])


def _has_equal_pixels(one: Print, other: Print) -> bool:
    """As of a copy whose metadata changed: it needs no placing."""
    return np.array_equal(one.gray, other.gray) and np.array_equal(one.colour, other.colour)


def _agreed(prints: Prints, first: Indices, second: Indices) -> list[NearPair]:
    """Those that agree: at a third of the size first, then placed at a half, then in full."""
    if not len(first):
        return []
    a, b = _grays(prints, first), _grays(prints, second)
    small_a, small_b = _means(a, COLOUR_SIDE_PX), _means(b, COLOUR_SIDE_PX)
    placement = aligned(small_a, small_b, still(len(a)), steps=5)
    agrees = correlation(small_a, *laid_over(small_b, placement)) >= MIN_CORRELATION
    agrees[agrees] &= _same_colours(prints, first[agrees], second[agrees], placement[agrees])
    if not agrees.any():
        return []
    a, b, first, second = a[agrees], b[agrees], first[agrees], second[agrees]
    half_a, half_b = _means(a, GRAY_SIDE_PX // 2), _means(b, GRAY_SIDE_PX // 2)
    same, detail = _agreeing(a, b, aligned(half_a, half_b, placement[agrees], steps=3))
    return [
        NearPair(int(one), int(two), round(max(0.0, 1 - float(correlated)), 4))
        for one, two, correlated in zip(first[same], second[same], detail[same], strict=True)
    ]


def _agreeing(a: Array, b: Array, placement: Array) -> tuple[npt.NDArray[np.bool_], Array]:
    """Which pairs agree, and how well in detail; only the doubtful ones are worth placing pixel by pixel."""
    found = agreement(a, b, placement)
    same, detail = _is_same(found), found.detail.copy()
    doubtful = ~same & (found.detail >= DOUBTFUL_DETAIL) & (found.difference <= DOUBTFUL_DIFFERENCE)
    if doubtful.any():
        a, b = a[doubtful], b[doubtful]
        better = agreement(a, b, aligned(a, b, placement[doubtful], steps=3))
        same[doubtful], detail[doubtful] = _is_same(better), better.detail
    return same, detail


def _is_same(found: Agreement) -> npt.NDArray[np.bool_]:
    return (found.detail >= MIN_DETAIL) & (found.difference <= MAX_GRAY_DIFFERENCE)


def _same_colours(prints: Prints, first: Indices, second: Indices, placement: Array) -> npt.NDArray[np.bool_]:
    """Whether no field of the photos differs in colour: the same motorbike in red is another photo."""
    if not len(first):
        return np.zeros(0, np.bool_)
    squares: Array = np.zeros((len(first), COLOUR_SIDE_PX, COLOUR_SIDE_PX), np.float32)
    # JPEG's planes are scaled differences from the luma; undone, both axes count in gray values.
    for plane, scale in ((0, 0.564), (1, 0.713)):
        a = np.stack([prints[i].colour[plane] for i in first]).astype(np.float32)
        b = np.stack([prints[i].colour[plane] for i in second]).astype(np.float32)
        laid, mask = laid_over(b, placement)
        squares += ((a - laid) / np.float32(scale) * mask) ** 2
    return worst_block(np.sqrt(squares)) <= MAX_COLOUR_DIFFERENCE


def _grays(prints: Prints, places: Indices) -> Array:
    return np.stack([prints[i].gray for i in places]).astype(np.float32)


def _means(gray: npt.NDArray[np.generic], side: int) -> Array:
    """Means of fields, so that the last two axes become `side` long."""
    step = GRAY_SIDE_PX // side
    fields = gray.reshape(*gray.shape[:-2], side, step, side, step)
    return np.asarray(fields.mean((-3, -1), dtype=np.float32), np.float32)
