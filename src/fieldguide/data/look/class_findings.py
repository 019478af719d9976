"""Findings from the names and sizes of classes and the layout of the folder; no picture is read."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldguide.data.look.files import relative_name
from fieldguide.data.look.findings import Finding, Kind, Topic, some
from fieldguide.data.look.passed_over import hidden, is_passed_over, is_system_file
from fieldguide.data.look.scan import Photo, PhotoFolder, natural
from fieldguide.data.read.formats import has_image_ending
from fieldguide.storage import FORMULA_STARTS

FEW_PHOTOS = 20
IMBALANCE = 10


@dataclass(frozen=True)
class Counts:
    """How many readable photos each class has, by class."""

    train: Mapping[str, int]
    val: Mapping[str, int]
    test: Mapping[str, int]
    units: Mapping[str, int]  # of train; duplicates, near or exact, count once, because a split keeps them together
    classes: tuple[str, ...]  # from all parts, in natural order, also those without a readable photo

    @property
    def trained(self) -> list[str]:
        """Classes with training photos, in natural order."""
        return [name for name in self.classes if self.train.get(name)]


def count(folder: PhotoFolder, readable: Sequence[Photo], groups: Sequence[Sequence[str]]) -> Counts:
    """Counts a folder's readable photos."""
    train, val, test = (
        Counter(photo.class_name for photo in readable if photo.part == part and photo.class_name is not None)
        for part in ("train", "val", "test")
    )
    leader = {file: group[0] for group in groups for file in group}
    units = {(photo.class_name, leader.get(photo.file, photo.file)) for photo in readable if photo.part == "train"}
    names = {photo.class_name for photo in folder.photos if photo.class_name is not None} | set(folder.empty_classes)
    of_units = Counter(name for name, _ in units if name is not None)
    return Counts(train, val, test, of_units, tuple(sorted(names, key=natural)))


def class_findings(folder: PhotoFolder, counts: Counts) -> Iterator[Finding]:
    """Findings about classes: none, too few, too unequal, or not in every part."""
    yield from _untrained(folder, counts)
    trained = counts.trained
    if len(trained) < 2:
        yield _of_classes(Kind.ONE_CLASS, "train", trained, f"a classifier needs two classes; there are {len(trained)}")
    if not folder.has_validation:
        small = [name for name in trained if counts.units[name] < 2]
        yield from _if_any(Kind.CLASS_TOO_SMALL, "train", small, "no photo to spare for validation")
    few = [name for name in trained if counts.train[name] < FEW_PHOTOS]
    yield from _if_any(Kind.FEW_PHOTOS, "train", few, f"fewer than {FEW_PHOTOS} training photos")
    yield from _imbalance(counts)
    if folder.has_validation:
        missing = [name for name in trained if not counts.val.get(name)]
        yield from _if_any(Kind.CLASS_MISSING_IN_VAL, "val", missing, "no photo in val; accuracy unknown")
    if folder.test_is_labelled and counts.test:
        missing = [name for name in trained if not counts.test.get(name)]
        yield from _if_any(Kind.CLASS_MISSING_IN_TEST, "test", missing, "no photo in test")


def name_findings(folder: PhotoFolder, counts: Counts) -> Iterator[Finding]:
    """Findings about the names of classes and files."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in counts.classes:
        alike[_plain(name)].append(name)
    for names in alike.values():
        if len(names) > 1:
            message = f"class names that differ only in case, accents or spaces: {some(names)}"
            yield _of_classes(Kind.SIMILAR_NAMES, "", names, message)
    as_text = sorted(counts.trained, key=lambda name: (name.casefold(), name))
    if as_text != counts.trained:
        moved = [name for name, other in zip(as_text, counts.trained, strict=True) if name != other]
        message = f"class names with numbers sort as text, and so do their indices: {some(moved)}"
        yield _of_classes(Kind.NUMBERS_AS_TEXT, "", moved, message)
    yield from _formulas(folder, counts)


def layout_findings(folder: PhotoFolder) -> Iterator[Finding]:
    """Findings about what is in the folder but not used."""
    if not folder.part("test"):
        yield Finding(Kind.NO_TEST, ("test",), (), (), "no test photos; validation accuracy is optimistic")
    if folder.strays:
        message = f"photos outside class folders are ignored: {some(folder.strays)}"
        yield Finding(Kind.STRAY_PHOTOS, (), (), folder.strays, message)
    if others := other_files(folder):
        yield Finding(Kind.OTHER_FILES, (), (), others, f"files without an image ending are ignored: {some(others)}")
    for remark in folder.remarks:
        if remark.topic is not Topic.CLASS_NOT_IN_TRAIN:  # that is a finding of its own, as harm
            yield Finding(Kind.LAYOUT, (), (), (), remark.sentence)


def other_files(folder: PhotoFolder) -> tuple[str, ...]:
    """Files below the folder without an image ending, such as text; none that is hidden or beside `train/`.

    A README or a table of labels belongs there. With a table, all that is not in it is left alone.
    """
    if folder.listed is not None:
        return ()
    found = []
    for place, inside, names in os.walk(folder.root):
        inside[:] = sorted(name for name in inside if not is_passed_over(name))
        if Path(place) == folder.root and any(name.lower() == "train" for name in inside):
            continue
        files = [Path(place, name) for name in sorted(names) if not hidden(name) and not is_system_file(name)]
        found += [relative_name(path, folder.root) for path in files if not has_image_ending(path)]
    return tuple(found)


def _untrained(folder: PhotoFolder, counts: Counts) -> Iterator[Finding]:
    in_train = {photo.class_name for photo in folder.part("train")} | set(folder.empty_classes)
    empty = [name for name in counts.classes if name in in_train and not counts.train.get(name)]
    yield from _if_any(Kind.EMPTY_CLASS, "train", empty, "no readable photo")
    for part, found in (("val", counts.val), ("test", counts.test)):
        unknown = [name for name in counts.classes if name not in in_train and found.get(name)]
        yield from _if_any(Kind.CLASS_NOT_IN_TRAIN, part, unknown, f"photos in {part} but none in train")


def _imbalance(counts: Counts) -> Iterator[Finding]:
    if len(counts.trained) < 2:
        return
    size: Callable[[str], int] = lambda name: counts.train[name]  # noqa: E731
    small, large = min(counts.trained, key=size), max(counts.trained, key=size)
    if size(large) >= IMBALANCE * size(small):
        message = f"{large} has {size(large):,} training photos, {small} has {size(small):,}"
        yield _of_classes(Kind.IMBALANCE, "train", [large, small], message)


def _formulas(folder: PhotoFolder, counts: Counts) -> Iterator[Finding]:
    classes = [name for name in counts.classes if name.startswith(FORMULA_STARTS)]
    files = [photo.file for photo in folder.photos if photo.path.name.startswith(FORMULA_STARTS)]
    if classes or files:
        message = f"a spreadsheet reads these names as formulas: {some(classes + files)}"
        yield Finding(Kind.FORMULA_NAME, (), tuple(classes), tuple(files), message)


def _plain(name: str) -> str:
    """A name without case, accents and spaces."""
    letters = unicodedata.normalize("NFD", name)
    return "".join(c for c in letters if not unicodedata.combining(c) and not c.isspace()).casefold()


def _if_any(kind: Kind, part: str, names: Sequence[str], what: str) -> Iterator[Finding]:
    if names:
        yield _of_classes(kind, part, names, f"{what}: {some(list(names))}")


def _of_classes(kind: Kind, part: str, names: Sequence[str], message: str) -> Finding:
    return Finding(kind, (part,) if part else (), tuple(names), (), message)
