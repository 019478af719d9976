"""One run of a script of `peers/accuracy_*.py`, in a process of its own, and what it came to."""

import datetime
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import children
import paths
import side_by_side
from accuracy_results import read_csv


def run_once(
    command: Sequence[str], timeout_seconds: int, setting: Mapping[str, object]
) -> tuple[dict[str, object], str]:
    """What a script of `peers/` printed and wrote, or why it failed.

    Args:
        command: as it is typed.
        timeout_seconds: after which it has failed.
        setting: of the results, with the photos of val/ and their classes.
    """
    with tempfile.TemporaryDirectory() as folder:
        ended = children.run(command, Path(folder), timeout_seconds)
        if ended.failure:
            return {}, ended.failure
        try:
            said = json.loads(ended.output.strip().splitlines()[-1])
            predicted = read_csv(Path(folder) / "predicted.csv", setting["photos"])
        except (OSError, ValueError, IndexError, KeyError) as error:
            return {}, f"could not run: {paths.shareable_text(str(error))}"
    right = sum(a == b for a, b in zip(predicted, setting["photos"]["classes"], strict=True))
    if "recipe" in said:
        said["recipe"] = paths.shareable_text(said["recipe"])
    return {
        **said,
        "seconds_used": ended.wall_seconds - said["prediction_seconds"],
        "wall_seconds": ended.wall_seconds,
        "other_cores": ended.other_cores,
        "accuracy": right / len(predicted),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": side_by_side.machine(),
        "predicted": predicted,
    }, ""


def read_once(photos: Path) -> None:
    """Reads every photo, so that nobody's first run reads from a cold disk."""
    for file in photos.glob("*/*/*"):
        file.read_bytes()
