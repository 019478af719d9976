"""Networks whose weights and activations have 8 bits (int8), by NNCF. The only one that knows it.

An extra: pip install 'fieldguide[int8]'.
"""

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fieldguide.deploy.export.runtime import INPUT, problem_without
from fieldguide.world.signal_stack import signal_stack_kept

PHOTOS = 300
MOST_REMEMBERED = 500_000_000
NO_REPORTS = "NNCF_CI"  # without it, NNCF reports to its makers what was quantised

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]
Answers = Callable[[Pixels], Probabilities]


def problem_with_int8() -> str | None:
    """The sentence about missing packages; None if all are installed."""
    return problem_without(("nncf",), "int8", "--int8")


def remembered(load: Callable[[Path], Pixels], most_bytes: int = MOST_REMEMBERED) -> Callable[[Path], Pixels]:
    """The same, but what was loaded is kept in memory up to a bound: each photo is read many times."""
    kept: dict[Path, Pixels] = {}

    def again(photo: Path) -> Pixels:
        found = kept.get(photo)
        if found is None:
            found = load(photo)
            if sum(each.nbytes for each in kept.values()) + found.nbytes <= most_bytes:
                kept[photo] = found
        return found

    return again


@dataclass(frozen=True)
class Calibration:
    """What quantisation measures ranges on, and what it may change.

    Attributes:
        photos: that the model was trained on, never those of a proof.
        load: a photo to what the model takes, (height, width, 3).
        before: what computes with the model as it was.
        most_lost: None: every layer that can be is quantised. Else layers stay in higher precision, one after the
            other, the worst first, until the probabilities that moved to other classes are at most this share, on
            average over `photos`.
    """

    photos: Sequence[Path]
    load: Callable[[Path], Pixels]
    before: Answers
    most_lost: float | None = None

    def batch(self, photo: Path) -> Pixels:
        """(1, height, width, 3)."""
        return self.load(photo)[None]


@signal_stack_kept()  # NNCF compiles by OpenVINO
def quantized(
    model: Any, names_before: Callable[[Any], list[str]], answers: Callable[[Any], Answers], calibration: Calibration
) -> Any:
    """A model of ONNX or OpenVINO in int8, by its own rounding after training (Jacob et al. 2018).

    Args:
        model: as its library holds it.
        names_before: the model's operations that stay as they are: the resize.
        answers: what computes with what NNCF hands to a validation.
        calibration: photos, and what may be lost.
    """
    nncf, photos = _nncf(), list(calibration.photos)
    data = nncf.Dataset(photos, lambda photo: {INPUT: calibration.batch(photo)})
    shared = {"subset_size": len(photos), "ignored_scope": nncf.IgnoredScope(names=names_before(model))}
    with _silent():
        if calibration.most_lost is None:
            return nncf.quantize(model, data, **shared)
        expected = {photo: calibration.before(calibration.batch(photo))[0] for photo in photos}

        def same_share(prepared: Any, asked: Iterable[Path]) -> tuple[float, list[float]]:
            computed = answers(prepared)
            found = [_overlap(expected[photo], computed(calibration.batch(photo))[0]) for photo in asked]
            return float(np.mean(found)), found

        limits = {"max_drop": calibration.most_lost, "drop_type": nncf.DropType.ABSOLUTE}
        own = {"validation_dataset": nncf.Dataset(photos), "validation_fn": same_share}
        return nncf.quantize_with_accuracy_control(model, data, **own, **limits, **shared)


def _overlap(probabilities: Probabilities, others: Probabilities) -> float:
    """The share of probability that two answers give to the same classes, from 0 to 1."""
    return float(np.minimum(probabilities, others).sum())


def lost_share(after: Answers, calibration: Calibration) -> float:
    """The share of probability that a quantised model gives to other classes, on average over the photos."""
    batches = (calibration.batch(photo) for photo in calibration.photos)
    return 1 - float(np.mean([_overlap(calibration.before(batch)[0], after(batch)[0]) for batch in batches]))


def _nncf() -> Any:
    """NNCF, imported so that it reports to nobody."""
    with _environment(NO_REPORTS, "1"), _silent():
        import nncf
    nncf.set_log_level(logging.CRITICAL)
    return nncf


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.__setitem__(name, before)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without NNCF's own progress bars, and without torch's warning that there is no GPU."""
    of_torch = logging.getLogger("torch.utils.cpp_extension")
    level = of_torch.level
    of_torch.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        of_torch.setLevel(level)
