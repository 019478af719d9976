"""How fast an export is beside the trained model, on the same photos in turns."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fieldguide.deploy.answers import Answering

ROUNDS = 5


def speed_of(original: Answering, exported: Answering, photos: Sequence[Path]) -> dict[str, Any]:
    """Times both, one photo after the other from its file, in turns; medians in milliseconds, and their ratio."""
    for predictor in (original, exported):  # what is made at the first photo of a size
        _answered(predictor, photos)
    rounds = [(_seconds(original, photos), _seconds(exported, photos)) for _ in range(ROUNDS)]
    before, after = (statistics.median(each) / len(photos) for each in zip(*rounds, strict=True))
    ratio = statistics.median(one / other for one, other in rounds)
    return {"original_ms": 1000 * before, "exported_ms": 1000 * after, "times_as_fast": ratio}


def _answered(predictor: Answering, photos: Sequence[Path]) -> None:
    for photo in photos:
        for _ in predictor.logits([photo]):
            pass


def _seconds(predictor: Answering, photos: Sequence[Path], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    _answered(predictor, photos)
    return max(clock() - began, 1e-9)
