"""The export in int8 that a run holds, for `predict` to use."""

from fieldguide.deploy.export.runtime import PIXELS
from fieldguide.deploy.names import INT8
from fieldguide.deploy.openvino_engine import Int8File
from fieldguide.errors import UsageError
from fieldguide.export_folder import ExportFolder
from fieldguide.model.description import Description
from fieldguide.run_folder import RunFolder

AGAIN = "fieldguide export RUN -o RUN/int8 --format openvino --int8"


def int8_of(run: RunFolder | None, bundle: Description) -> tuple[Int8File | None, str]:
    """What was proven to lose no accuracy for this very bundle.

    Returns:
        The file, or None; and a remark about an export that is there and not used, or an empty text.
    """
    folder = ExportFolder(run.int8) if run is not None else None
    if folder is None or not folder.is_there:
        return None, ""
    try:
        return _file_of(folder, bundle), ""
    except UsageError as error:
        return None, f"{error}; int8 is not used"


def _file_of(folder: ExportFolder, bundle: Description) -> Int8File:
    said = folder.read()
    made = next((each for each in said["variants"] if each["name"] == INT8), None)
    if made is None or said["runtime"] != "openvino" or said.get("takes") != "photo":
        raise UsageError(f"{folder.path}: has no int8 for OpenVINO that takes whole photos; export again: {AGAIN}")
    folder.demand_made_from(said, bundle, AGAIN)
    folder.demand_whole(made["sha256"])
    try:
        own, temperature = said["preprocessing"][0], float(said["temperatures"][0])
        mean, std = (tuple(map(float, own[name])) for name in ("mean", "std"))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"{folder.description}: is damaged ({type(error).__name__}); export again: {AGAIN}") from None
    return Int8File(folder.path.absolute() / made["file"], f"{PIXELS}0", mean, std, temperature)
