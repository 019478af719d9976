"""`fieldguide check`: problems in a folder of photos, before training."""

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from fieldguide.commands.terminal.outputs import demand_free_outputs
from fieldguide.commands.terminal.screen import Screen
from fieldguide.data.look.find import find_photos
from fieldguide.data.look.findings import Finding, Kind
from fieldguide.data.look.look_over import CheckReport, Progress, look_over, silent
from fieldguide.data.look.scan import PhotoFolder
from fieldguide.data.look.source import Source, as_source
from fieldguide.data.read.content import read_bytes
from fieldguide.data.read.decode import UnreadableError, thumbnail_jpeg
from fieldguide.data.read.reading import Reading
from fieldguide.errors import UsageError
from fieldguide.recipe.load import read_draft
from fieldguide.recipe.overrides import Overrides, listed
from fieldguide.recipe.schema import Data, Recipe
from fieldguide.report.check_page import check_page
from fieldguide.report.check_screen import check_lines
from fieldguide.storage import problem_with_output_file, write_json, write_text

THUMBNAIL_SIDE_PX = 160
MOST_THUMBNAILS = 2_000  # some 8 MB of page
THUMBNAILS_PER_FINDING = 6


def check(
    photos: str | Path,
    *,
    json_file: str | Path | None = None,
    html_file: str | Path | None = None,
    max_megapixels: float | None = None,
    photos_folder: str | Path | None = None,
    columns: str | None = None,
    overrides: Overrides = (),
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _: None,
) -> CheckReport:
    """Checks photos for problems before training. Changes nothing in the folder.

    Args:
        photos: a folder with `train/CLASS/` or `CLASS/` in it, a table of labels, or an archive, as for `train`.
        json_file, html_file: where to write the findings as JSON, or as a page with thumbnails; None: nowhere.
        max_megapixels: short for `data.max_megapixels`: a larger photo is a decompression bomb.
        photos_folder, columns: of a table, as for `train`.
        overrides: fields of a recipe's `data`, as for `train`: how photos are found and read.
        progress: such as `Screen.counting`; called with a description and a total.
        tell: such as `Screen.say`; called with a sentence about an archive.

    Raises:
        UsageError: no such folder, a wrong override, or an output file cannot be written or would replace a photo.
        PhotosError: the layout cannot be understood.
    """
    outputs = [Path(file) for file in (json_file, html_file) if file is not None]
    problems = [f"{file}: {problem}" for file in outputs if (problem := problem_with_output_file(file))]
    if problems:
        raise UsageError(*problems)
    data = _data(overrides, max_megapixels)
    reading = Reading.of_recipe(dict(data))
    source = Source.of(as_source(photos, photos_folder, columns), data.class_folder)
    folder = find_photos(source, tell)
    paths = (photo.path for photo in folder.photos)
    demand_free_outputs({"--json": json_file, "--html": html_file}, paths, {"the table or archive": source.path})
    _, report = look_over(folder, reading, progress)
    try:
        if json_file is not None:
            write_json(Path(json_file), report.plain())
        if html_file is not None:
            meanings = {kind.value: kind.meaning for kind in Kind}
            thumbnails = dict(_thumbnails(folder, _pictured(report.findings), reading))
            write_text(Path(html_file), check_page(report.plain(), meanings, thumbnails))
    except OSError as error:
        raise UsageError(f"{error.filename or html_file}: cannot be written ({error.strerror or error})") from None
    return report


def _data(overrides: Overrides, max_megapixels: float | None) -> Data:
    """How photos are found and read; raises UsageError for fields that change nothing in a check."""
    if max_megapixels is not None:
        overrides = (*listed(overrides), {"data.max_megapixels": max_megapixels})
    recipe = read_draft(Recipe(), overrides).demand()
    if recipe != Recipe(data=recipe.data):
        raise UsageError("--set: check uses the fields of data; leave out the others")
    return recipe.data


def show(report: CheckReport, screen: Screen, written: Sequence[Path] = ()) -> None:
    """Shows the result on one screen, and the files that were written."""
    for line in check_lines(report.plain(), screen.console.width):
        screen.say(line.text, line.style)
    for file in written:
        screen.say(f"all findings: {file}")


def _pictured(findings: Sequence[Finding]) -> list[str]:
    """The files that the page shows: a few per finding, pairs in full, up to a limit."""
    files = [file for finding in findings for file in finding.files[:THUMBNAILS_PER_FINDING]]
    return list(dict.fromkeys(files))[:MOST_THUMBNAILS]


def _thumbnails(folder: PhotoFolder, files: Iterable[str], reading: Reading) -> Iterator[tuple[str, str]]:
    """Names and `data:` addresses of the files that can be decoded."""
    paths = {photo.file: photo.path for photo in folder.photos}
    for file in files:
        if file in paths:
            try:
                made = thumbnail_jpeg(read_bytes(paths[file]), THUMBNAIL_SIDE_PX, reading)
            except UnreadableError:
                continue
            yield file, "data:image/jpeg;base64," + base64.b64encode(made).decode()
