"""Tries test sizes and crops on photos, and chooses one."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image
from scipy.special import log_softmax

from fieldguide.commands.judging.judge import Judged, judge_photos
from fieldguide.data.read.preprocess import Preprocessing, resized_side
from fieldguide.data.split.partition import Row
from fieldguide.deploy.predictor import Predictor
from fieldguide.errors import UsageError, counted
from fieldguide.evaluation.calibration import fit_temperature

Setting = tuple[int, float]  # image_size_px, crop_share
Losses = Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """The chosen setting, and the others.

    `tried` has the mean loss of each tried setting, that of the training first: in nats, each at its best temperature,
    because the bundle gets its own in the end. `taken`: whether another setting was better beyond noise. `photos`
    counts those of validation that were used. `sentence` is empty if there was nothing to choose.
    """

    setting: Setting
    tried: Mapping[Setting, float]
    taken: bool
    photos: int
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            **_named(self.setting),
            "taken": self.taken,
            "tried": [_named(setting) | {"loss": loss} for setting, loss in self.tried.items()],
            "images": self.photos,
            "sentence": self.sentence,
        }


def with_setting(preprocessing: Preprocessing, setting: Setting) -> Preprocessing:
    """The same preprocessing at another size and crop."""
    return replace(preprocessing, image_size_px=setting[0], resize_px=resized_side(*setting))


class Tries:
    """Tries settings on photos while there is time.

    `losses` has the loss of each photo by file, per tried setting; `left_out` the settings without time to try;
    `failed` those that the network could not compute, with the reason.
    """

    def __init__(
        self,
        predictor: Predictor,
        rows: Sequence[Row],
        photos: Mapping[str, Path | Image],
        seconds: float | None = None,
        advance: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.losses: dict[Setting, Losses] = {}
        self.left_out: list[Setting] = []
        self.failed: dict[Setting, str] = {}
        self._predictor, self._rows, self._photos, self._advance = predictor, rows, photos, advance
        self._seconds, self._clock, self._began = seconds, clock, clock()
        self._seconds_per_pixel = 0.0

    def try_out(self, setting: Setting) -> bool:
        """Whether the setting has losses now; not tried if the speed so far leaves no time."""
        if setting in self.losses:
            return True
        began, pixels = self._clock(), setting[0] ** 2
        needed = 2 * self._seconds_per_pixel * pixels  # to try it, and to evaluate the bundle with it if chosen
        if self._seconds is not None and began - self._began + needed >= self._seconds:
            self.left_out.append(setting)
            return False
        made = self._predictor.with_preprocessing(with_setting(self._predictor.preprocessing, setting))
        try:
            self.losses[setting] = losses_of(judge_photos(made, self._rows, self._photos, self._advance))
        except (UsageError, torch.OutOfMemoryError) as error:
            if not self.losses:  # the setting of the training: nothing to fall back to
                raise
            self.failed[setting] = str(error).splitlines()[0][:160]
            return False
        self._seconds_per_pixel = (self._clock() - began) / pixels
        return True


def losses_of(judged: Judged) -> Losses:
    """Log loss of each photo, at the temperature that fits all of them best."""
    answers = judged.predictions
    temperature = fit_temperature(answers.logits, answers.labels).value
    logs = log_softmax(answers.logits.astype(np.float64) / temperature, axis=1)  # (photos, classes)
    of_truth = -logs[np.arange(len(answers.labels)), answers.labels]
    return dict(zip(answers.files, of_truth.tolist(), strict=True))


def choose(tries: Tries, start: Setting, sizes: Sequence[int], shares: Sequence[float]) -> Choice:
    """Chooses the size first, at the crop of `start`; then the crop, at the best size (both by mean loss).

    Another setting is taken only if its loss is lower beyond noise: the mean paired difference is more than one
    standard error above 0. `sizes` (px) and `shares` are the others to try.
    """
    others = [(size, start[1]) for size in sizes]
    if not others and not shares:
        return Choice(start, {}, False, 0, f"test size stays {_words(start)}")
    if not tries.try_out(start):
        return Choice(start, {}, False, 0, f"test size stays {_words(start)}: no time to try another")
    for setting in others:
        tries.try_out(setting)
    best = _best(tries, start)
    for share in shares:
        if share != start[1]:
            tries.try_out((best[0], share))
    best = _best(tries, start)
    before, after = _paired(tries.losses[start], tries.losses[best])
    taken = best != start and is_less(after, before)
    tried = {setting: float(np.mean(list(losses.values()))) for setting, losses in tries.losses.items()}
    choice = Choice(best if taken else start, tried, taken, len(before), "")
    return replace(choice, sentence=_sentence(choice, best, before, after, tries))


def is_less(losses: npt.NDArray[np.float64], than: npt.NDArray[np.float64]) -> bool:
    """Whether the mean loss on the same photos is lower by more than one standard error of the difference."""
    gain = than - losses  # (photos,)
    return len(gain) > 1 and float(gain.mean()) > float(gain.std(ddof=1)) / len(gain) ** 0.5


def _best(tries: Tries, start: Setting) -> Setting:
    """The lowest mean loss, each over the photos shared with the start; the first of several."""
    return min(tries.losses, key=lambda one: np.subtract(*_paired(tries.losses[one], tries.losses[start])).mean())


def _paired(one: Losses, other: Losses) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    files = [file for file in one if file in other]
    return np.array([one[file] for file in files]), np.array([other[file] for file in files])


def _sentence(
    choice: Choice, best: Setting, before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], tries: Tries
) -> str:
    among = f"among {len(choice.tried)}"
    if choice.taken:
        text = (
            f"test size {_words(choice.setting)} chosen on validation {among}: loss {before.mean():.4f} -> "
            f"{after.mean():.4f} (each at its best temperature); so the validation figure is slightly optimistic"
        )
    elif best == choice.setting:
        text = f"test size stays {_words(choice.setting)}: the best on validation {among} (loss {before.mean():.4f})"
    else:
        text = (
            f"test size stays {_words(choice.setting)}: none {among} is better on validation beyond noise (loss "
            f"{before.mean():.4f}; {_words(best)}: {after.mean():.4f})"
        )
    if tries.left_out:
        text += f"; no time for {counted(len(tries.left_out), 'other')}"
    for setting, reason in tries.failed.items():
        text += f"; {_words(setting)} failed ({reason})"
    return text


def _named(setting: Setting) -> dict[str, Any]:
    return {"image_size_px": setting[0], "crop_share": setting[1]}


def _words(setting: Setting) -> str:
    return f"{setting[0]} px and crop {setting[1]:g}"
