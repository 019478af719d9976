"""The photos of a folder, each with its class and part. Looks at names only."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fieldguide.data.look.files import (
    Hidden,
    about_hidden,
    entries,
    hidden,
    images_below,
    is_folder,
    is_image,
    problem_with_folder,
    relative_name,
    with_photos,
)
from fieldguide.data.look.findings import Remark, Topic, some
from fieldguide.errors import PhotosError, UsageError, counted
from fieldguide.storage import printable

VALIDATION_NAMES = ("val", "valid", "validation")
NAMES_OF_PARTS = ("train", "test", "val", "dev", "eval", "holdout")  # how they begin


@dataclass(frozen=True)
class Photo:
    """One file with an image ending."""

    path: Path
    file: str  # its path below the folder of photos, with `/`, as valid UTF-8 (other bytes as `\xNN`)
    part: str  # `train`, `val` or `test`
    class_name: str | None  # the folder's name; None in a test folder without classes


@dataclass(frozen=True)
class PhotoFolder:
    """The contents of a folder of photos."""

    root: Path
    photos: tuple[Photo, ...]  # in a stable order
    has_validation: bool  # there is a folder of validation photos
    test_is_labelled: bool  # there are test photos in class folders
    empty_classes: tuple[str, ...] = ()  # class folders of train (or of the root) without a photo
    others: int = 0  # how many files have no image ending
    strays: tuple[str, ...] = ()  # photos outside class folders, in train, in val or beside them
    remarks: tuple[Remark, ...] = ()  # what a person should read

    @property
    def sentences(self) -> list[str]:
        """The remarks in words."""
        return [remark.sentence for remark in self.remarks]

    def part(self, name: str) -> list[Photo]:
        """The photos of one part."""
        return [photo for photo in self.photos if photo.part == name]

    @property
    def classes(self) -> list[str]:
        """Names of the classes that have training photos, sorted as text."""
        return sorted({photo.class_name for photo in self.part("train") if photo.class_name is not None})


def natural(name: str) -> tuple[list[int | str], str]:
    """A sorting key under which 2 comes before 10."""
    pieces = re.split(r"(\d+)", name.casefold())
    return [int(piece) if piece.isdecimal() else piece for piece in pieces], name


def scan(root: Path) -> PhotoFolder:
    """Finds the photos of a folder that holds `train/`, or one folder per class.

    Raises UsageError if there is no such folder, PhotosError if its layout cannot be understood.
    """
    problem = problem_with_folder(root)
    if problem:
        raise UsageError(problem)
    folders = {entry.name: entry for entry in entries(root) if is_folder(entry) and not hidden(entry.name)}
    parts = _parts(root, folders)
    return _scan_parts(root, parts) if parts else _scan_classes(root, folders)


def _parts(root: Path, folders: dict[str, Path]) -> dict[str, Path]:
    """The folders called train, val and test; empty where the classes lie in the root."""
    found: dict[str, Path] = {}
    for name, folder in folders.items():
        lowered = name.lower()
        part = "val" if lowered in VALIDATION_NAMES else lowered
        if part not in ("train", "val", "test"):
            continue
        if part in found:
            raise PhotosError(
                f"{root}: {found[part].name}/ and {name}/ both look like the {part} photos; rename one of them"
            )
        found[part] = folder
    if "train" in found:
        return found
    if found and len(found) == len(folders):
        raise PhotosError(
            f"{root}: has {', '.join(f.name + '/' for f in found.values())} but no train/; "
            "put the training photos into train/CLASS/"
        )
    return {}


def _scan_classes(root: Path, folders: dict[str, Path]) -> PhotoFolder:
    collector = _Collector(root)
    collector.add_classes("train", root)
    remarks = [
        Remark(Topic.LAYOUT, f"{name}/ is used as a class, because there is no train/ beside it", (name,))
        for name in folders
        if name.lower() in ("test", *VALIDATION_NAMES)
    ]
    remarks += _about_parts(root, folders)
    if not collector.photos:
        raise PhotosError(
            f"{root}: no photos in class folders; expected {root}/CLASS/*.jpg or {root}/train/CLASS/*.jpg "
            f"({collector.others:,} other files, {len(collector.strays):,} photos outside class folders)"
        )
    return collector.folder(has_validation=False, test_is_labelled=False, remarks=remarks)


def _about_parts(root: Path, folders: Mapping[str, Path]) -> list[Remark]:
    """A remark if folders look like parts (they hold the same folders, no photos); PhotosError if named so, too."""
    shared: set[str] = set()
    for place, folder in enumerate(folders.values()):
        inside = entries(folder)
        if any(is_image(entry) and not is_folder(entry) for entry in inside):
            return []
        names = {printable(entry.name) for entry in inside if is_folder(entry) and not hidden(entry.name)}
        shared = names if place == 0 else shared & names
    if len(folders) < 2 or len(shared) < 2:
        return []
    what = f"{some([f'{name}/' for name in folders])} hold the same folders ({some(sorted(shared, key=natural))})"
    if all(name.lower().startswith(NAMES_OF_PARTS) for name in folders):
        raise PhotosError(f"{root}: {what}, so they are parts, not classes; call them train/, val/ and test/")
    words = f"{what} and are used as classes; if they are parts, call them train/, val/ and test/"
    return [Remark(Topic.LAYOUT, words, tuple(folders))]


def _scan_parts(root: Path, parts: dict[str, Path]) -> PhotoFolder:
    collector = _Collector(root)
    collector.add_classes("train", parts["train"])
    if not collector.photos:
        raise PhotosError(f"{parts['train']}: no photos in class folders; expected {parts['train']}/CLASS/*.jpg")
    classes = {photo.class_name for photo in collector.photos}
    remarks = [
        Remark(Topic.LAYOUT, f"{entry.name}/ beside train/ is not used", (entry.name,))
        for entry in entries(root)
        if is_folder(entry) and not hidden(entry.name) and entry not in parts.values()
    ]
    collector.add_strays(entry for entry in entries(root) if not is_folder(entry))
    if "val" in parts:
        collector.add_classes("val", parts["val"])
    labelled = False
    if "test" in parts:
        labelled = collector.add_test(parts["test"], {name for name in classes if name}, remarks)
    has_validation = any(photo.part == "val" for photo in collector.photos)
    if "val" in parts and not has_validation:
        raise PhotosError(f"{parts['val']}: no photos in class folders; fill it or remove it")
    return collector.folder(has_validation=has_validation, test_is_labelled=labelled, remarks=remarks)


class _Collector:
    """Gathers photos part by part."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.photos: list[Photo] = []
        self.empty: list[str] = []
        self.strays: list[str] = []
        self.others = 0
        self.hidden: list[Hidden] = []

    def add_classes(self, part: str, folder: Path) -> None:
        names: dict[str, Path] = {}
        for entry in entries(folder):
            if not is_folder(entry):
                self.add_strays([entry])
            elif hidden(entry.name):
                self.hidden += with_photos(entry)
            else:
                name = printable(entry.name)
                if names.setdefault(name, entry) != entry:
                    raise PhotosError(f"{folder}: two classes have the same printable name, {name}; rename one of them")
                self._add(part, entry, name)

    def add_strays(self, files: Iterable[Path]) -> None:
        """Counts files outside class folders."""
        for file in files:
            if is_image(file):
                self.strays.append(relative_name(file, self.root))
            else:
                self.others += 1

    def add_test(self, folder: Path, classes: set[str], remarks: list[Remark]) -> bool:
        """Adds test photos; says whether some are in class folders."""
        inside = [entry for entry in entries(folder) if is_folder(entry) and not hidden(entry.name)]
        flat = [entry for entry in entries(folder) if not is_folder(entry) and is_image(entry)]
        unknown = sorted(printable(entry.name) for entry in inside if printable(entry.name) not in classes)
        foreign = len(unknown) == len(inside)
        if not inside or flat or foreign:
            if inside:
                why = "they are not class folders" if foreign else "there are photos beside them"
                words = f"{folder.name}/ has folders but counts as unlabelled: {why}"
                remarks.append(Remark(Topic.LAYOUT, words, (folder.name,)))
            self._add("test", folder, None)
            return False
        if unknown:
            words = f"{folder.name}/ has classes without training photos: {', '.join(unknown)}"
            remarks.append(Remark(Topic.CLASS_NOT_IN_TRAIN, words, tuple(unknown)))
        self.add_classes("test", folder)
        if any(photo.part == "test" for photo in self.photos):
            return True
        words = f"{folder.name}/ has class folders, but no file in them has an image ending"
        remarks.append(Remark(Topic.LAYOUT, words, (folder.name,)))
        return False

    def _add(self, part: str, folder: Path, class_name: str | None) -> None:
        images, others, passed = images_below(folder)
        self.others += others
        self.hidden += passed
        if not images and part == "train" and class_name is not None:
            self.empty.append(class_name)
        self.photos += [Photo(path, relative_name(path, self.root), part, class_name) for path in images]

    def folder(self, *, has_validation: bool, test_is_labelled: bool, remarks: list[Remark]) -> PhotoFolder:
        same = [file for file, count in Counter(photo.file for photo in self.photos).items() if count > 1]
        if same:
            raise PhotosError(f"{self.root}: two files have the same printable name, {same[0]}; rename one of them")
        return PhotoFolder(
            root=self.root,
            photos=tuple(self.photos),
            has_validation=has_validation,
            test_is_labelled=test_is_labelled,
            empty_classes=tuple(self.empty),
            others=self.others,
            strays=tuple(self.strays),
            remarks=(*remarks, *about_hidden(self.hidden, self.root)),
        )


def summary(folder: PhotoFolder) -> str:
    """What will be used, in one sentence."""
    counts = Counter(photo.part for photo in folder.photos)
    train = f"{counts['train']:,} photos of {len(folder.classes):,} classes"
    validation = f"{counts['val']:,} for validation" if folder.has_validation else "validation is taken from these"
    test = f", {counts['test']:,} for test" if counts["test"] else ""
    labels = "" if folder.test_is_labelled or not counts["test"] else " (without labels)"
    ignored = f"; {counted(folder.others, 'other file')} ignored" if folder.others else ""
    if folder.strays:
        ignored += f"; {len(folder.strays):,} photos outside class folders ignored, such as {folder.strays[0]}"
    return f"{train} to train on, {validation}{test}{labels}{ignored}"
