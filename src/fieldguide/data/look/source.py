"""Where the photos of a request are, and how it reads them."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from fieldguide.errors import UsageError


@dataclass(frozen=True)
class Source:
    """The photos that a person asks for.

    Attributes:
        path: a folder, a table of labels, or an archive.
        photos: the folder (or archive) that a table's names are in; None: the table's own.
        columns: a table's columns, such as `label=species,group=camera`; None: found by name.
        class_folder: which folder is the class: `first`, `last`, or `path` for all of them.
        is_for_training: False where a folder with `test/CLASS` alone is enough.
    """

    path: Path
    photos: Path | None = None
    columns: str | None = None
    class_folder: str = "first"
    is_for_training: bool = True

    @staticmethod
    def of(photos: "Source | Path", class_folder: str) -> "Source":
        """A path, or what was asked for, with a recipe's `data.class_folder`."""
        return replace(photos if isinstance(photos, Source) else Source(photos), class_folder=class_folder)

    def resolved(self) -> "Source":
        """With absolute paths, for another process."""
        photos = None if self.photos is None else self.photos.resolve()
        return replace(self, path=self.path.resolve(), photos=photos)

    def demand_no_idle_option(self, is_table: bool) -> None:
        """Raises UsageError if options for a table come with a folder."""
        told = [f"--photos {self.photos}"] if self.photos is not None else []
        told += [f"--columns {self.columns}"] if self.columns is not None else []
        if told and not is_table:
            raise UsageError(
                f"{' and '.join(told)}: only for a table of labels, but {self.path} is none; leave it out, or give "
                "the table first: fieldguide train TABLE --photos FOLDER"
            )


def as_source(photos: str | Path, folder: str | Path | None = None, columns: str | None = None) -> Source:
    """What a command was given; raises UsageError for what is no path."""
    for name, given in (("photos", photos), ("photos_folder", folder)):
        if not isinstance(given, str | os.PathLike) and not (given is None and name == "photos_folder"):
            raise UsageError(f"{name}: must be a path, not {type(given).__name__}")
    return Source(Path(photos), None if folder is None else Path(folder), columns)
