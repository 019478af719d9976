"""A run's page, made again from what the run keeps."""

from pathlib import Path

from fieldguide.errors import UsageError
from fieldguide.report.page import page
from fieldguide.run_folder import RunFolder
from fieldguide.storage import is_there, write_text


def report(run: str | Path) -> Path:
    """Writes `report.html` into a finished run; neither the model nor the photos are needed, and no torch is loaded.

    Args:
        run: a finished run.

    Returns:
        Where the page is.

    Raises:
        UsageError: no finished run, a damaged file in it, or it cannot be written.
    """
    folder = RunFolder(Path(run))
    if is_there(folder.folds):
        raise UsageError(
            f"{run}: is a cross-validation; each fold has a report of its own, such as {folder.fold(1).path}"
        )
    content = page(folder)
    try:
        write_text(folder.report, content)
    except OSError as error:
        raise UsageError(f"{folder.report}: cannot be written ({error.strerror or error})") from None
    return folder.report
