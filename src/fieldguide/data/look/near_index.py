"""Which of very many photos may be near duplicates, without comparing each with each.

An inverted file (Sivic and Zisserman 2003; as faiss's IndexIVFFlat): k-means puts the rough looks into about sqrt(n)
lists, and a photo is compared with those of the lists that are nearest to it. So the work grows as n^1.5. Two near
duplicates are missed only if neither finds the other's list among its nearest.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
LISTS_VISITED = 12
SAMPLE_PER_LIST = 40
ROUNDS = 6
ROWS_AT_ONCE = 4_096


class RoughIndex:
    """Photos by their rough look; built once, the same for the same photos."""

    def __init__(self, rough: Array) -> None:
        """`rough` is (photos, width), of length 1 each."""
        lists = max(1, round(math.sqrt(len(rough))))
        self._centres = _centres(rough, lists)
        nearest = np.concatenate([_nearest(rows, self._centres, 1)[:, 0] for rows in _blocks(rough)])
        self._order = np.argsort(nearest, kind="stable")  # photos, list by list
        self._ends = np.searchsorted(nearest[self._order], np.arange(lists + 1))
        self._rough = rough

    def blocks(self) -> Iterator[list[tuple[Indices, Indices]]]:
        """A stretch of photos at a time that look alike: for each list, (rows that visit it, photos in it)."""
        for start in range(0, len(self._order), ROWS_AT_ONCE):
            rows = self._order[start : start + ROWS_AT_ONCE]
            visited = _nearest(self._rough[rows], self._centres, LISTS_VISITED)  # (rows, lists)
            flat = visited.ravel()
            by_list = np.argsort(flat, kind="stable")
            ends = np.searchsorted(flat[by_list], np.arange(len(self._centres) + 1))
            yield [
                (rows[by_list[ends[number] : ends[number + 1]] // visited.shape[1]], self._members(number))
                for number in np.unique(flat)
            ]

    def _members(self, number: int) -> Indices:
        return self._order[self._ends[number] : self._ends[number + 1]]


def _centres(rough: Array, lists: int) -> Array:
    """Spherical k-means on a sample, with draws of its own."""
    draw = np.random.default_rng(0)
    sample = rough[np.sort(draw.permutation(len(rough))[: SAMPLE_PER_LIST * lists])]
    centres = sample[np.sort(draw.permutation(len(sample))[:lists])].copy()
    for _ in range(ROUNDS):
        nearest = np.concatenate([_nearest(rows, centres, 1)[:, 0] for rows in _blocks(sample)])
        counts = np.bincount(nearest, minlength=lists)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, sample)
        means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
        centres[counts > 0] = means[counts > 0]
    return centres


def _nearest(rows: Array, centres: Array, count: int) -> Indices:
    """(rows, count) lists, the nearest first."""
    alike = rows @ centres.T
    count = min(count, len(centres))
    if count == 1:
        return np.asarray(alike.argmax(1)[:, None], np.int64)
    best = np.argpartition(-alike, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(alike, best, 1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(best, order, 1), np.int64)


def _blocks(rough: Array) -> Iterator[Array]:
    for start in range(0, len(rough), ROWS_AT_ONCE):
        yield rough[start : start + ROWS_AT_ONCE]


Compare = Callable[[Indices, Indices], npt.NDArray[np.bool_]]  # pair by pair


def best_by_lists(
    rough: Array,
    of_part: npt.NDArray[np.bool_],
    possible: Compare,
    least: float,
    most: int,
    is_late: Callable[[], bool],
) -> Indices:
    """Pairs of each photo with the `most` photos of each part that are most alike: (pairs, 2).

    Args:
        rough: (photos, width) rough looks, of length 1.
        of_part: (parts, photos) which part each is in.
        possible: of the first and the second photos of pairs, (pairs,): whether they can be near duplicates.
        least: pairs that are less alike are none.
        most: best ones of each part that are kept.
        is_late: asked now and then; it ends with what it has.
    """
    found: list[Indices] = []
    for block in RoughIndex(rough).blocks():
        if found and is_late():
            break
        pairs, scores = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
        for rows, others in block:
            alike = rough[rows] @ rough[others].T  # (rows, others)
            place = np.flatnonzero(alike >= least)
            first, second = rows[place // len(others)], others[place % len(others)]
            keep = (first != second) & possible(first, second)
            pairs.append(np.column_stack([first[keep], second[keep]]))
            scores.append(alike.ravel()[place[keep]])
        every, score = np.concatenate(pairs), np.concatenate(scores)
        for members in of_part:
            own = members[every[:, 1]]
            found.append(_best_of_each(every[own], score[own], most))
    return np.concatenate(found)


def _best_of_each(pairs: Indices, score: Array, most: int) -> Indices:
    """The `most` best pairs of each first photo; of equal ones, those of the first photos."""
    order = np.lexsort((pairs[:, 1], -score, pairs[:, 0]))
    pairs = pairs[order]
    begins = np.flatnonzero(np.r_[True, pairs[1:, 0] != pairs[:-1, 0]]) if len(pairs) else np.empty(0, np.int64)
    rank = np.arange(len(pairs)) - np.repeat(begins, np.diff(np.r_[begins, len(pairs)]))
    return pairs[rank < most]
