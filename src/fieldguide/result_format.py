"""What `result.json` says across versions: its format number, and older ones as this version writes them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldguide.errors import SIGNAL_EXIT_CODES, UsageError

RESULT_FORMAT = 2
REASONS_OF_FORMAT_1 = {
    "solved": "solved",
    "its most epochs": "max_epochs",
    "the training's most epochs": "training_max_epochs",
    "the time was up": "out_of_time",
}


def is_spoilt(result: Mapping[str, Any]) -> bool:
    """Whether a training was stopped by a loss or weights that are not finite, so that resuming would fail again."""
    return result["stopped"] is not None and result["stopped"]["kind"] == "not_finite"


def as_now(result: dict[str, Any], path: Path) -> dict[str, Any]:
    """A result as this version writes it; in format 1, which has no number, sentences said why something ended.

    Raises:
        UsageError: a later version wrote it, or it is damaged.
    """
    if result.get("format", 1) not in (1, RESULT_FORMAT):
        raise UsageError(f"{path}: has format {result['format']!r}; this version reads formats 1 to {RESULT_FORMAT}")
    if not isinstance(result["validation"], dict):
        raise UsageError(f"{path}: is damaged (validation is {result['validation']!r:.80})")
    if result.get("format", 1) == 1:
        result = _from_format_1(result, path)
    if not _is_choice(chose := result["validation"].get("chose")):
        raise UsageError(f"{path}: is damaged (validation.chose is {chose!r:.80})")
    stopped = result.get("stopped")
    if stopped is not None and not (isinstance(stopped, dict) and {"kind", "text"} <= stopped.keys()):
        raise UsageError(f"{path}: is damaged (stopped is {stopped!r})")
    return result | {"stopped": stopped}


def _from_format_1(result: dict[str, Any], path: Path) -> dict[str, Any]:
    stopped, spoilt = result.get("stopped") or None, bool(result.get("spoilt"))
    found = result | {"format": RESULT_FORMAT, "stopped": stopped and _stopped_of_format_1(str(stopped), spoilt)}
    found["validation"] = result["validation"] | {"chose": _chose_of_format_1(result["validation"].get("chose"))}
    if stages := result.get("stages"):
        if not all(isinstance(stage, dict) for stage in stages):
            raise UsageError(f"{path}: is damaged (its stages are {stages!r:.80})")
        found["stages"] = [stage | {"reason": _reason_of_format_1(str(stage.get("reason", "")))} for stage in stages]
    return found


def _is_choice(chose: Any) -> bool:
    if not isinstance(chose, dict) or not {"kind", "text"} <= chose.keys():
        return False
    return chose["kind"] != "soup" or isinstance(chose.get("epochs"), list)


def _chose_of_format_1(text: Any) -> dict[str, Any]:
    """A sentence, which began with the model; the earliest versions wrote none."""
    words = "the epoch" if text is None else str(text).replace("_", " ")
    if soup := re.match(r"the greedy soup of epochs (\d+(?:, \d+)*) of ", words):
        return {"kind": "soup", "epochs": [int(number) for number in soup[1].split(", ")], "text": words}
    return {"kind": "folds" if re.search(r" of each of \d+ folds\b", words) else "epoch", "text": words}


def _reason_of_format_1(text: str) -> dict[str, str]:
    kind = "converged" if text.startswith("converged") else REASONS_OF_FORMAT_1.get(text, "stopped")
    return {"kind": kind, "text": text}


def _stopped_of_format_1(text: str, spoilt: bool) -> dict[str, str]:
    if spoilt:
        return {"kind": "not_finite", "text": text}
    name = next((name for name in SIGNAL_EXIT_CODES if text.endswith(name)), None)
    return {"kind": "error", "text": text} if name is None else {"kind": "signal", "signal": name, "text": text}
