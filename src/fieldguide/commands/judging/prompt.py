"""The export that a run holds, for a few photos: it answers without torch, which takes seconds to import."""

from fieldguide.deploy.answers import Answering
from fieldguide.errors import UsageError
from fieldguide.export_folder import ExportFolder
from fieldguide.model.description import Description
from fieldguide.run_folder import RunFolder

FEW = 512  # photos; measured: with fewer, the start of torch takes longer than it saves
WITHOUT_TORCH = ("onnx", "openvino")
AGAIN = "fieldguide export RUN -o RUN/export --format onnx"


def export_of(run: RunFolder | None, bundle: Description) -> tuple[Answering | None, str]:
    """What was proven to answer as this very bundle.

    Returns:
        The opened export, or None; and a remark about one that is there and not used, or an empty text.
    """
    folder = ExportFolder(run.export) if run is not None else None
    if folder is None or not folder.is_there:
        return None, ""
    from fieldguide.deploy.export.exported import load_exported

    try:
        said = folder.read()
        if said["runtime"] not in WITHOUT_TORCH:
            return None, ""
        folder.demand_made_from(said, bundle, AGAIN)
        return load_exported(folder.path), ""
    except UsageError as error:
        return None, f"{error}; it is not used"
