"""The files of an export. No other file knows their names."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldguide.errors import UsageError
from fieldguide.storage import digest, file_digest, read_json, write_json

FORMAT = 1
MOST_BYTES = 2**26
EXPORT_FILE = "export.json"


@dataclass(frozen=True)
class ExportFolder:
    """A folder with a model for another runtime, and the proof that it answers as the trained one."""

    path: Path

    @property
    def description(self) -> Path:
        """What the model takes and gives, its files with checksums, and the figures of its proof."""
        return self.path / EXPORT_FILE

    @property
    def page(self) -> Path:
        """The same for people, with code that runs the model."""
        return self.path / "EXPORT.md"

    @property
    def web_page(self) -> Path:
        """The page of `--format web`."""
        return self.path / "index.html"

    @property
    def samples(self) -> Path:
        """Some photos with the probabilities that are expected for them."""
        return self.path / "samples"

    @property
    def expected(self) -> Path:
        """The probabilities of the samples."""
        return self.samples / "expected.json"

    @property
    def is_there(self) -> bool:
        """Whether it is an export; False where nobody can look."""
        try:
            return self.description.is_file()
        except OSError:  # a name that is too long, a folder without permission
            return False

    def owns(self, name: str) -> bool:
        """Whether this is an export, and `name` a file or folder of it."""
        if not self.is_there:
            return False
        own = {EXPORT_FILE, self.page.name, self.samples.name, self.web_page.name}
        with contextlib.suppress(UsageError):  # damaged: what is known by name stays safe
            said = self.read()
            own |= {name for variant in said["variants"] for name in variant["sha256"]}
            own |= set(said.get("page", {}).get("files", ()))
        return name in own

    def write(self, content: dict[str, Any]) -> None:
        """Writes the description."""
        write_json(self.description, {"format": FORMAT, **content})

    def read(self) -> dict[str, Any]:
        """Reads the description.

        Raises:
            UsageError: missing, damaged, or of another version.
        """
        data = read_json(self.description, MOST_BYTES)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else None
            raise UsageError(
                f"{self.description}: has format {str(found)[:40]}, but this version of fieldguide reads {FORMAT}"
            )
        try:
            variants = [(str(variant["name"]), dict(variant["sha256"])) for variant in data["variants"]]
            if not variants or data["serves"] not in dict(variants) or not isinstance(data["runtime"], str):
                raise ValueError("no variant to serve")
            if any(variant["file"] not in variant["sha256"] for variant in data["variants"]):
                raise ValueError("a file without its checksum")
            if any("/" in name or "\\" in name for _, files in variants for name in files):
                raise ValueError("a file outside of the folder")
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{self.description}: is damaged ({type(error).__name__}: {str(error)[:200]})") from None
        return data

    def demand_made_from(self, said: dict[str, Any], bundle: object, again: str) -> None:
        """Holds what `read` gave against a bundle's description.

        Raises:
            UsageError: it was made from another one; `again` is the command that exports.
        """
        if said.get("bundles_sha256") != [digest(repr(bundle).encode())]:
            raise UsageError(f"{self.path}: was made from another bundle than the run has now; export again: {again}")

    def demand_whole(self, sha256: dict[str, str]) -> None:
        """Checks files against their checksums.

        Raises:
            UsageError: one is missing or was changed.
        """
        for name, expected in sha256.items():
            try:
                found = file_digest(self.path / name)
            except OSError as error:
                raise UsageError(f"{self.path / name}: cannot be read ({error.strerror or error})") from None
            if found != expected:
                raise UsageError(
                    f"{self.path / name}: was changed after its export (its checksum differs); export again"
                )
