"""What `fieldguide check` can find: the kinds, how severe each is, and what it means."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Severity = Literal["harm", "note"]


class Kind(NamedTuple):
    """A kind of finding: `harm` makes a figure wrong or stops a training, `note` is good to know."""

    severity: Severity
    meaning: str


# In the order in which a person should read them; docs/check.md lists the same, and a test holds the two together.
KINDS: dict[str, Kind] = {
    "unreadable": Kind("harm", "A file that the system or the decoder refuses."),
    "truncated": Kind("harm", "A photo whose file ends before the picture does."),
    "empty_file": Kind("harm", "A file of zero bytes."),
    "not_an_image": Kind("harm", "A file with an image's ending that holds no image."),
    "bomb": Kind(
        "harm",
        "A picture of so many pixels or scans, or so much metadata, that it would take hours or all memory.",
    ),
    "same_photo_two_labels": Kind("harm", "The same file lies in two classes, so one of the labels is wrong."),
    "near_duplicate_two_labels": Kind("harm", "Nearly the same photo lies in two classes."),
    "same_photo_across_parts": Kind("harm", "The same file stands in two of train, val and test: accuracy too high."),
    "near_duplicate_across_parts": Kind("harm", "Nearly the same photo stands in two of train, val and test."),
    "one_class": Kind("harm", "Fewer than two classes have photos to train on."),
    "empty_class": Kind("harm", "A class folder without a photo to train on."),
    "class_not_in_train": Kind("harm", "A class of val or test that is never trained."),
    "same_photo": Kind("note", "The same file lies twice in one class and part."),
    "near_duplicate": Kind("note", "Nearly the same photo lies twice in one class and part."),
    "look_alikes": Kind("note", "A chain of look-alikes over 5 % of a class, which a split does not keep together."),
    "class_too_small": Kind("note", "A class without a photo to spare for validation."),
    "few_photos": Kind("note", "A class of fewer than 20 photos to train on."),
    "imbalance": Kind("note", "The largest class has 10 times the photos of the smallest, or more."),
    "class_missing_in_val": Kind("note", "A class of train that val does not have."),
    "class_missing_in_test": Kind("note", "A class of train that a labelled test does not have."),
    "no_test": Kind("note", "There are no test photos."),
    "similar_names": Kind("note", "Class names that differ only in case, accents or spaces."),
    "numbers_as_text": Kind("note", "Class names with numbers, which sort as text: 1, 10, 2."),
    "formula_name": Kind("note", "A name that a spreadsheet takes for a formula: it begins with =, +, - or @."),
    "wrong_ending": Kind("note", "A file whose ending names another format than its content has."),
    "tiny": Kind("note", "A photo whose shorter side is under 32 pixels."),
    "elongated": Kind("note", "A photo over 5 times as long as wide, of which a centre crop shows little."),
    "animated": Kind("note", "A file of several pictures, of which the first is used."),
    "exif_rotated": Kind("note", "A photo that the camera marked as turned or mirrored; it is used upright."),
    "alpha": Kind("note", "A photo with transparency, which is laid on white."),
    "sixteen_bit": Kind("note", "A photo of more than 8 bits a channel, which is used with 8."),
    "cmyk": Kind("note", "A photo in printing colours, which is converted to RGB."),
    "grayscale": Kind("note", "A photo without colour channels."),
    "stray_photos": Kind("note", "Photos in no class folder, which are passed over."),
    "other_files": Kind("note", "Files without a known image ending, which are passed over."),
    "layout": Kind("note", "A folder that is used otherwise than its name suggests, or not at all."),
}


@dataclass(frozen=True)
class Finding:
    """Something that a person should know about the photos.

    Attributes:
        kind: a key of `KINDS`.
        part: `train`, `val`, `test`, several joined by ", ", or an empty text for the whole folder.
        classes: those concerned.
        files: those concerned, by their names below the folder of photos.
        message: one sentence.
    """

    kind: str
    part: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    message: str

    @property
    def severity(self) -> Severity:
        """`harm` or `note`."""
        return KINDS[self.kind].severity

    def plain(self) -> dict[str, Any]:
        """As in `--json`."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "part": self.part,
            "classes": list(self.classes),
            "files": list(self.files),
            "message": self.message,
        }


def some(names: "tuple[str, ...] | list[str]", most: int = 5) -> str:
    """The first names, and how many there are beyond them."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
