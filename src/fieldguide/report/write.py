"""Writes the page of a run from the files that the run keeps."""

from pathlib import Path

from fieldguide.errors import UsageError
from fieldguide.report.page import page
from fieldguide.run_folder import RunFolder
from fieldguide.storage import is_there, write_text


def report(run: str | Path) -> Path:
    """Writes `report.html` into a finished run, without model, photos or torch.

    Args:
        run: a finished run.

    Returns:
        The path of the page.

    Raises:
        UsageError: no finished run, a damaged file in it, or it cannot be written.
    """
    folder = RunFolder(Path(run))
    if is_there(folder.folds):
        raise UsageError(f"{run}: is a cross-validation; each fold has its own report, such as {folder.fold(1).path}")
    content = page(folder)
    try:
        write_text(folder.report, content)
    except OSError as error:
        raise UsageError(f"{folder.report}: cannot be written ({error.strerror or error})") from None
    return folder.report
