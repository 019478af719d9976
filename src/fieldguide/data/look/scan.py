"""The photos of a folder, each with its class and part. Looks at names only."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fieldguide.data.look.files import (
    entries,
    images_below,
    is_folder,
    is_image,
    passed_over,
    problem_with_folder,
    relative_name,
)
from fieldguide.data.look.findings import Remark, Topic
from fieldguide.data.look.layout import (
    about_classes,
    about_nesting,
    class_of,
    folders_in,
    holds_photos,
    parts_in,
    tables_in,
)
from fieldguide.data.look.passed_over import PassedOver, is_passed_over
from fieldguide.data.look.source import Source
from fieldguide.errors import PhotosError, UsageError, counted
from fieldguide.storage import printable


@dataclass(frozen=True)
class Photo:
    """One file with an image ending."""

    path: Path
    file: str  # its path below the folder of photos, with `/`, as valid UTF-8 (other bytes as `\xNN`)
    part: str  # `train`, `val` or `test`
    class_name: str | None  # the folder's name, or the table's label; None in a test folder without classes
    group: str = ""  # what a table says it belongs to, such as a site; empty: nothing


@dataclass(frozen=True)
class Listed:
    """What a table says of the photos in a folder, and what fits nothing there."""

    sentence: str  # which columns were used
    missing: tuple[str, ...] = ()  # lines and names of photos that are not in the folder
    unlabelled: tuple[str, ...] = ()  # photos in the folder that the table does not name, or gives no label
    two_labels: tuple[str, ...] = ()  # photos with two labels, and these; they are not among the folder's photos
    left_out: int = 0  # how many photos the table itself excludes


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
    listed: Listed | None = None  # where the labels are from a table
    source: Source | None = None  # how it was asked for; None: as the folder `root`
    has_parts: bool = False  # the first folder of each file is its part

    @property
    def asked_for(self) -> Source:
        """How the photos were asked for."""
        return self.source or Source(self.root)

    @property
    def name(self) -> str:
        """The path that was asked for."""
        return str(self.asked_for.path)

    @property
    def groups(self) -> list[list[str]]:
        """Files of two and more photos that a table puts into one group."""
        found: dict[str, list[str]] = defaultdict(list)
        for photo in self.photos:
            if photo.group:
                found[photo.group].append(photo.file)
        return [files for files in found.values() if len(files) > 1]

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


def scan(root: Path, class_folder: str = "first", *, is_for_training: bool = True) -> PhotoFolder:
    """Finds the photos of a folder that holds `train/`, or one folder per class.

    Args:
        root: the folder.
        class_folder: which of nested folders is the class: `first`, `last` or `path`.
        is_for_training: False where `val/` or `test/` alone is enough.

    Raises UsageError if there is no such folder, PhotosError if its layout cannot be understood.
    """
    problem = problem_with_folder(root)
    if problem:
        raise UsageError(problem)
    folders = folders_in(root)
    parts = parts_in(root, folders, is_for_training=is_for_training)
    collector = _Collector(root, class_folder)
    for entry in entries(root):
        if is_passed_over(entry.name) and is_folder(entry):
            collector.passed.add(passed_over(entry))
    return _scan_parts(collector, parts) if parts else _scan_classes(collector, folders)


def _scan_classes(collector: "_Collector", folders: Mapping[str, Path]) -> PhotoFolder:
    root = collector.root
    collector.add_classes("train", root)
    remarks = [*about_classes(root, folders, collector.class_folder), *collector.about_nesting(root)]
    if not collector.photos:
        raise PhotosError(
            f"{root}: no photos in class folders; expected {root}/CLASS/*.jpg or {root}/train/CLASS/*.jpg "
            f"({collector.others:,} other files, {len(collector.strays):,} photos outside class folders)"
            f"{tables_in(root)}"
        )
    return collector.folder(has_validation=False, test_is_labelled=False, remarks=remarks)


def _scan_parts(collector: "_Collector", parts: Mapping[str, Path]) -> PhotoFolder:
    root = collector.root
    if "train" in parts:
        collector.add_classes("train", parts["train"])
        if not collector.photos:
            raise PhotosError(
                f"{parts['train']}: no photos in class folders; expected {parts['train']}/CLASS/*.jpg"
                f"{tables_in(parts['train'])}"
            )
    classes = {photo.class_name for photo in collector.photos}
    remarks = [
        Remark(Topic.LAYOUT, f"{name}/ beside train/ is not used", (name,))
        for name, folder in folders_in(root).items()
        if folder not in parts.values()
    ]
    if "train" in parts:
        remarks += collector.about_nesting(parts["train"])
    collector.add_strays(entry for entry in entries(root) if not is_folder(entry))
    if "val" in parts:
        collector.add_classes("val", parts["val"])
    has_validation = any(photo.part == "val" for photo in collector.photos)
    if "val" in parts and not has_validation:
        raise PhotosError(f"{parts['val']}: no photos in class folders; fill it or remove it")
    labelled = False
    if "test" in parts:
        labelled = collector.add_test(parts["test"], {name for name in classes if name}, remarks)
    return collector.folder(has_validation=has_validation, test_is_labelled=labelled, remarks=remarks, has_parts=True)


class _Collector:
    """Gathers photos part by part."""

    def __init__(self, root: Path, class_folder: str) -> None:
        self.root = root
        self.class_folder = class_folder
        self.photos: list[Photo] = []
        self.empty: list[str] = []
        self.strays: list[str] = []
        self.others = 0
        self.passed = PassedOver()

    def add_classes(self, part: str, folder: Path) -> None:
        """Adds the photos of a part's class folders; those beside them are strays."""
        names: dict[str, Path] = {}
        for entry in entries(folder):
            if not is_folder(entry):
                self.add_strays([entry])
            elif not is_passed_over(entry.name):
                name = printable(entry.name)
                if names.setdefault(name, entry) != entry:
                    raise PhotosError(f"{folder}: two classes have the same printable name, {name}; rename one of them")
                self._add(part, entry, folder)
            elif folder != self.root:  # those of the root are known already
                self.passed.add(passed_over(entry))

    def add_strays(self, files: Iterable[Path]) -> None:
        """Counts files outside class folders."""
        for file in files:
            if is_image(file):
                self.strays.append(relative_name(file, self.root))
            elif not self.passed.add_file(file.name):
                self.others += 1

    def add_test(self, folder: Path, classes: set[str], remarks: list[Remark]) -> bool:
        """Adds test photos; says whether some are in class folders. Without training classes, every folder is one."""
        inside = list(folders_in(folder).values())
        flat = holds_photos(folder)
        found = {name for entry in inside for name in self._classes_in(entry, folder)}
        unknown = sorted(found - classes) if classes else []
        foreign = len(unknown) == len(found)
        if not inside or flat or (foreign and classes):
            if inside:
                why = "there are photos beside them" if flat and not foreign else "they are not class folders"
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

    def about_nesting(self, folder: Path) -> list[Remark]:
        """A remark if the classes of the training photos below `folder` hold only folders."""
        if self.class_folder != "first":
            return []
        training = (photo.path for photo in self.photos if photo.part == "train")
        return about_nesting(list(map(printable, path.relative_to(folder).parts[:-1])) for path in training)

    def _classes_in(self, entry: Path, folder: Path) -> set[str]:
        if self.class_folder == "first":
            return {printable(entry.name)}
        return {self._class_of(path, folder) for path in images_below(entry).images}

    def _class_of(self, path: Path, folder: Path) -> str:
        return printable(class_of(path.relative_to(folder).parts[:-1], self.class_folder))

    def _add(self, part: str, entry: Path, folder: Path | None) -> None:
        """Adds the photos of a class folder in `folder`; None: they have no classes."""
        images, others, passed = images_below(entry)
        self.others += others
        self.passed.add(passed)
        if not images and part == "train":
            self.empty.append(printable(entry.name))
        for path in images:
            class_name = None if folder is None else self._class_of(path, folder)
            self.photos.append(Photo(path, relative_name(path, self.root), part, class_name))

    def folder(
        self, *, has_validation: bool, test_is_labelled: bool, remarks: list[Remark], has_parts: bool = False
    ) -> PhotoFolder:
        """All of it; raises PhotosError if two files would be written alike."""
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
            remarks=(*remarks, *self.passed.remarks(self.root)),
            has_parts=has_parts,
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
    listed = f"; {folder.listed.sentence}" if folder.listed else ""
    return f"{train} to train on, {validation}{test}{labels}{ignored}{listed}"
