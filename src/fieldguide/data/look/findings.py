"""What `fieldguide check` can find: the kinds, how severe each is, and what it means."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Literal

Severity = Literal["harm", "note"]


class Kind(StrEnum):
    """A kind of finding, by the name that `--json` has, in reading order as docs/check.md lists them.

    `harm` makes a figure wrong or stops a training, `note` is good to know; the meaning is one sentence.
    """

    severity: Severity
    meaning: str

    def __new__(cls, name: str, severity: Severity, meaning: str) -> "Kind":
        """A member that compares and is written as its name."""
        kind = str.__new__(cls, name)
        kind._value_, kind.severity, kind.meaning = name, severity, meaning
        return kind

    UNREADABLE = "unreadable", "harm", "The system or the decoder cannot read the file."
    TRUNCATED = "truncated", "harm", "The file ends before the picture does."
    EMPTY_FILE = "empty_file", "harm", "The file has zero bytes."
    NOT_AN_IMAGE = "not_an_image", "harm", "The file has an image ending but holds no image."
    BOMB = "bomb", "harm", "Too many pixels or scans, or too much metadata: decoding would take hours or all memory."
    DECODER_MISSING = "decoder_missing", "harm", "The decoder of this format is not installed."
    BANDS = "bands", "harm", "The TIFF has several bands, and nobody said which are red, green and blue."
    VALUE_RANGES = (
        "value_ranges",
        "harm",
        "Photos with more than 8 bits use different ranges. With one range for all, some are nearly black or clipped.",
    )
    SAME_PHOTO_TWO_LABELS = "same_photo_two_labels", "harm", "The same file is in two classes. One label is wrong."
    LISTED_TWO_LABELS = "listed_two_labels", "harm", "A table gives the photo two labels."
    MISSING_PHOTO = "missing_photo", "harm", "A table names a photo that is not in the folder."
    NEAR_DUPLICATE_TWO_LABELS = "near_duplicate_two_labels", "harm", "Nearly the same photo is in two classes."
    SAME_PHOTO_ACROSS_PARTS = (
        "same_photo_across_parts",
        "harm",
        "The same file is in two of train, val and test. Accuracy may be too high.",
    )
    NEAR_DUPLICATE_ACROSS_PARTS = (
        "near_duplicate_across_parts",
        "harm",
        "Nearly the same photo is in two of train, val and test. Accuracy may be too high.",
    )
    ONE_CLASS = "one_class", "harm", "Fewer than two classes have training photos."
    EMPTY_CLASS = "empty_class", "harm", "The class has no training photo."
    CLASS_NOT_IN_TRAIN = "class_not_in_train", "harm", "A class of val or test has no training photos."
    SAME_PHOTO = "same_photo", "note", "The same file is twice in one class and part."
    NEAR_DUPLICATE = "near_duplicate", "note", "Nearly the same photo is twice in one class and part."
    LOOK_ALIKES = "look_alikes", "note", "A chain of look-alikes, over 5 % of a class. A split may separate them."
    CLASS_TOO_SMALL = "class_too_small", "note", "The class has no photo to spare for validation."
    FEW_PHOTOS = "few_photos", "note", "The class has fewer than 20 training photos."
    IMBALANCE = "imbalance", "note", "The largest class has at least 10 times the photos of the smallest."
    CLASS_MISSING_IN_VAL = "class_missing_in_val", "note", "The class has training photos, but none in val."
    CLASS_MISSING_IN_TEST = "class_missing_in_test", "note", "The class has training photos, but none in test."
    NO_TEST = "no_test", "note", "There are no test photos."
    SIMILAR_NAMES = "similar_names", "note", "Class names differ only in case, accents or spaces."
    NUMBERS_AS_TEXT = "numbers_as_text", "note", "Class names with numbers sort as text: 1, 10, 2."
    FORMULA_NAME = "formula_name", "note", "A spreadsheet reads the name as a formula: it begins with =, +, - or @."
    WRONG_ENDING = "wrong_ending", "note", "The file ending names another format than the content."
    TINY = "tiny", "note", "The shorter side is under 32 pixels."
    ELONGATED = "elongated", "note", "Over 5 times as long as wide; a centre crop shows little of it."
    ANIMATED = "animated", "note", "The file holds several pictures. Only the first is used."
    EXIF_ROTATED = "exif_rotated", "note", "The camera marked the photo as turned or mirrored. It is used upright."
    ALPHA = "alpha", "note", "The photo has transparency. It is laid on white."
    SIXTEEN_BIT = (
        "sixteen_bit",
        "note",
        "The photo has more than 8 bits per channel. It is used with 8; `data.value_range` says which.",
    )
    CMYK = "cmyk", "note", "The photo has printing colours. It is converted to RGB."
    GRAYSCALE = "grayscale", "note", "The photo has no colour channels."
    UNLABELLED = "unlabelled", "note", "The photo is in the folder, but the table gives it no label."
    STRAY_PHOTOS = "stray_photos", "note", "Photos outside class folders are ignored."
    OTHER_FILES = "other_files", "note", "Files without a known image ending are ignored."
    LAYOUT = "layout", "note", "A folder is ignored, or used in another way than its name suggests."


# Families of kinds, for those who treat exact and near duplicates alike.
TWO_LABELS = frozenset({Kind.SAME_PHOTO_TWO_LABELS, Kind.NEAR_DUPLICATE_TWO_LABELS})
ACROSS_PARTS = frozenset({Kind.SAME_PHOTO_ACROSS_PARTS, Kind.NEAR_DUPLICATE_ACROSS_PARTS})


@dataclass(frozen=True)
class Finding:
    """Something that a person should know about the photos.

    Attributes:
        kind: what kind of thing.
        parts: of `train`, `val` and `test`; empty for the whole folder.
        classes: those concerned.
        files: those concerned, by their names below the folder of photos.
        message: one sentence, for people only.
    """

    kind: Kind
    parts: tuple[str, ...]
    classes: tuple[str, ...]
    files: tuple[str, ...]
    message: str

    @property
    def severity(self) -> Severity:
        """`harm` or `note`."""
        return self.kind.severity

    @property
    def part(self) -> str:
        """The parts, joined by ", "."""
        return ", ".join(self.parts)

    def plain(self) -> dict[str, Any]:
        """As in `--json`."""
        return {
            "kind": self.kind.value,
            "severity": self.severity,
            "part": self.part,
            "classes": list(self.classes),
            "files": list(self.files),
            "message": self.message,
        }


class Topic(Enum):
    """What a remark is about."""

    LAYOUT = "how folders are used"
    CLASS_NOT_IN_TRAIN = "test classes without training photos"
    UNREADABLE = "photos that cannot be read"
    TWO_LABELS = "one photo under two labels"
    ACROSS_PARTS = "one photo in two parts"
    LOOK_ALIKES = "a chain of look-alikes"
    CLIPPED = "photos with values outside the range"
    SEEN_BEFORE = "photos that the first weights were trained on"
    SINGLE = "classes with one photo"
    NOT_VALIDATED = "classes or photos that are never validated"
    FEWER_THAN_FOLDS = "classes with fewer photos than folds"
    NOT_COMPARED = "near duplicates that were not looked for"
    MOOT_SETTINGS = "settings that change nothing here"
    TABLE = "photos that a table and its folder disagree about"
    FROM_THE_RUN = "kept with the run when it began"


@dataclass(frozen=True)
class Remark:
    """Something that a person should know about the photos before a training."""

    topic: Topic
    sentence: str = field(compare=False)  # for people only; remarks on the same topic and names are equal
    names: tuple[str, ...] = ()  # of the classes or files concerned


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
