"""The same photo twice: the same content or nearly, in one class, across parts, or under two labels."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from fieldguide.data.look.facts import Facts
from fieldguide.data.look.findings import Finding, Kind, some
from fieldguide.data.look.near import groups_of, near_pairs
from fieldguide.data.look.scan import Photo

Photos = tuple[Photo, ...]


class Trouble(NamedTuple):
    """How the same photo in two places harms: the kind for the same content, and for nearly the same."""

    same: Kind
    near: Kind


HARMLESS = Trouble(Kind.SAME_PHOTO, Kind.NEAR_DUPLICATE)
TWO_LABELS = Trouble(Kind.SAME_PHOTO_TWO_LABELS, Kind.NEAR_DUPLICATE_TWO_LABELS)
ACROSS_PARTS = Trouble(Kind.SAME_PHOTO_ACROSS_PARTS, Kind.NEAR_DUPLICATE_ACROSS_PARTS)


@dataclass(frozen=True)
class Duplicates:
    """Photos that are more than once in a folder."""

    same: tuple[Photos, ...]  # photos with the same content, two and more each
    near: tuple[tuple[Photos, Photos, float], ...]  # of one content, of another nearly the same, distance (0 to 0.25)
    groups: tuple[Photos, ...]  # near and exact duplicates that a split keeps together
    look_alikes: tuple[Photos, ...]  # groups too large for that

    @property
    def file_groups(self) -> list[list[str]]:
        """The groups by file name, as `make_split` takes them."""
        return [[photo.file for photo in group] for group in self.groups]

    @property
    def torn(self) -> list[list[str]]:
        """The files of each near pair across parts, also of look-alikes: leaks, in a group or not."""
        pairs = [(*first, *second) for first, second, _ in self.near]
        return [[photo.file for photo in pair] for pair in pairs if len({photo.part for photo in pair}) > 1]


def find_duplicates(
    facts: Sequence[Facts],
    advance: Callable[[float], None] = lambda _: None,
    is_late: Callable[[], bool] = lambda: False,
) -> Duplicates:
    """Compares all photos that could be read; `advance` gets the share of the work done since the last call.

    Where `is_late`, near duplicates are only those found so far.
    """
    by_content: dict[str, list[Facts]] = defaultdict(list)
    for entry in facts:
        if not entry.reason:
            by_content[entry.content_hash].append(entry)
    contents = list(by_content.values())
    photos = [tuple(entry.photo for entry in content) for content in contents]
    prints = [content[0].print for content in contents]
    aspects = [content[0].width / content[0].height for content in contents]
    pairs = near_pairs(prints, aspects, advance, [{photo.part for photo in same} for same in photos], is_late)
    kept, large = groups_of(pairs, [same[0].class_name for same in photos])
    same = tuple(content for content in photos if len(content) > 1)
    joined = {place for group in kept for place in group}
    alone = [content for place, content in enumerate(photos) if len(content) > 1 and place not in joined]
    return Duplicates(
        same=same,
        near=tuple((photos[pair.first], photos[pair.second], pair.distance) for pair in pairs),
        groups=(*_flat(photos, kept), *alone),
        look_alikes=_flat(photos, large),
    )


def duplicate_findings(found: Duplicates) -> Iterator[Finding]:
    """Findings of all duplicates: a group of the same content, a pair of nearly the same."""
    for same in found.same:
        yield _finding(_trouble(same, same).same, same, f"the same file {len(same)} times: {_files(same)}")
    chain_of = {photo.file: place for place, group in enumerate(found.look_alikes) for photo in group}
    chained: dict[int, list[tuple[Photos, Photos]]] = defaultdict(list)
    for first, second, distance in found.near:
        place = chain_of.get(first[0].file)
        if place is None:
            yield _pair(first, second, distance)
        else:
            chained[place].append((first, second))
    for place, group in enumerate(found.look_alikes):
        yield _finding(Kind.LOOK_ALIKES, group, f"a chain of {len(group):,} look-alikes: {_files(group)}")
        yield from _crossing(chained[place])


def _flat(photos: Sequence[Photos], groups: Sequence[Sequence[int]]) -> tuple[Photos, ...]:
    return tuple(tuple(photo for place in group for photo in photos[place]) for group in groups)


def _pair(first: Photos, second: Photos, distance: float) -> Finding:
    a, b = _worst(first, second)
    others = [photo for photo in (*first, *second) if photo not in (a, b)]
    message = f"{b.file} is nearly the same photo as {a.file} (distance {distance:.3f})"
    return _finding(_trouble(first, second).near, (a, b, *others), message)


def _crossing(pairs: Sequence[tuple[Photos, Photos]]) -> Iterator[Finding]:
    """One finding for all harmful pairs of a chain that have the same kind and parts; thousands would hide the rest.

    Pairs of other parts stay apart: train and val with train and test would read as val and test.
    """
    crossing: dict[tuple[Trouble, frozenset[str]], dict[str, Photo]] = defaultdict(dict)
    for first, second in pairs:
        if (trouble := _trouble(first, second)) is not HARMLESS:
            both = (*first, *second)
            crossing[trouble, frozenset(photo.part for photo in both)].update((photo.file, photo) for photo in both)
    for (trouble, _), photos in crossing.items():
        among = tuple(photos.values())
        yield _finding(trouble.near, among, f"{len(among):,} photos of a chain of look-alikes: {_files(among)}")


def _trouble(first: Photos, second: Photos) -> Trouble:
    """How two contents, or one and itself, harm."""
    labels = [{photo.class_name for photo in content} - {None} for content in (first, second)]
    if all(labels) and len(labels[0] | labels[1]) > 1:
        return TWO_LABELS
    crosses = len({photo.part for photo in (*first, *second)}) > 1
    return ACROSS_PARTS if crosses else HARMLESS


def _worst(first: Photos, second: Photos) -> tuple[Photo, Photo]:
    """One photo of each content: the two that do the most harm by being the same."""
    pairs = product(_one_of_each(first), _one_of_each(second))
    return max(pairs, key=lambda pair: (_labels_differ(*pair), pair[0].part != pair[1].part))


def _one_of_each(photos: Photos) -> list[Photo]:
    """The first photo of each class and part; thousands of copies add nothing."""
    found: dict[tuple[str | None, str], Photo] = {}
    for photo in photos:
        found.setdefault((photo.class_name, photo.part), photo)
    return list(found.values())


def _labels_differ(a: Photo, b: Photo) -> bool:
    return a.class_name is not None and b.class_name is not None and a.class_name != b.class_name


def _finding(kind: Kind, photos: Photos, message: str) -> Finding:
    parts = tuple(part for part in ("train", "val", "test") if any(photo.part == part for photo in photos))
    classes = sorted({photo.class_name for photo in photos if photo.class_name is not None})
    return Finding(kind, parts, tuple(classes), tuple(photo.file for photo in photos), message)


def _files(photos: Photos) -> str:
    return some([photo.file for photo in photos])
