"""`model.backbone: auto` on the user's photos: successive halving of candidates by the held-out loss of a probe.

Each candidate sees the same share of the training photos that it could see in the minutes, by its measured forward
pass, so a slow one competes with fewer photos if it could not see them all (Jamieson and Talwalkar 2016, arXiv
1502.07943, for the halving). Photos of the training part alone are used, and of these some are held out.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from fieldguide.assemble.candidates import Candidate
from fieldguide.assemble.described import architecture, preprocessing_of, resolved
from fieldguide.assemble.speed import MEASURED_SIDE_PX
from fieldguide.assemble.tools import Paths, precision_context
from fieldguide.assemble.validating import in_proportion
from fieldguide.data.read.decode import UnreadableError, photo_of
from fieldguide.data.read.inputs import in_order
from fieldguide.data.read.photo_pixels import shrunk_to
from fieldguide.data.read.preprocess import Preprocessing, center, normalize, pixels
from fieldguide.data.split.partition import Row, Split
from fieldguide.errors import UsageError
from fieldguide.model.classifier import Classifier, demand_image_size, make_classifier, make_on_meta
from fieldguide.model.weights import load_weights
from fieldguide.recipe.lives import SizedRecipe
from fieldguide.recipe.resolve import with_sizes
from fieldguide.recipe.schema import Recipe
from fieldguide.training.probe import losses_beside
from fieldguide.world import fastest_precision, repeatable

SHARE = 0.15  # of the minutes, to measure
OPEN_SECONDS = 120.0  # without minutes
TRAINED_SHARE = 0.6  # of the rest, in which a probe could see photos
FOR_FORWARD = 0.6  # of the time to measure; the rest is for decoding and fitting
HELD_OUT, HELD_OUT_A_CLASS = 200, 2  # at least; at most a fourth of the photos
FEWEST_A_CLASS = 2  # photos to fit on
MOST_SIDE_PX = 640  # of decoded photos that are kept
BATCH, TIMED = 32, 96  # photos at once, and whose forward passes are timed first


@dataclass
class Contender:
    """A candidate's network, and what was measured of it."""

    candidate: Candidate
    model: Classifier
    recipe: SizedRecipe
    preprocessing: Preprocessing
    precision: str  # of its forward passes: bf16, fp16 or fp32
    seconds: list[float] = field(default_factory=list)  # a photo, of each batch
    sees: int = 0  # photos, in the minutes
    features: list[npt.NDArray[np.float32]] = field(default_factory=list)  # of the held-out photos, then of others
    losses: npt.NDArray[np.float64] = field(default_factory=lambda: np.array([]))
    accuracy: float = 0.0
    photos: int = 0  # fitted on, in the last rung

    @property
    def seconds_a_photo(self) -> float:
        """Of a forward pass, without decoding: the median over batches."""
        return sorted(self.seconds)[len(self.seconds) // 2]

    @property
    def loss(self) -> float:
        """Mean over the held-out photos of the last rung."""
        return float(self.losses.mean())

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "backbone": self.candidate.backbone,
            "weights": self.candidate.weights,
            "image_size_px": self.recipe.data.image_size_px,
            "seconds_a_photo": self.seconds_a_photo,
            "photos": self.photos,
            "held_out": len(self.losses),
            "loss": self.loss if self.photos else None,
            "accuracy": self.accuracy if self.photos else None,
        }


@dataclass(frozen=True)
class Measured:
    """The candidate that goes on, with all that was tried, best first; `left_out` says why others were not."""

    best: Candidate
    tried: tuple[dict[str, Any], ...]
    left_out: tuple[str, ...]
    seconds: float

    def sentence(self) -> str:
        """The choice, for the screen."""
        first = self.tried[0]
        others = [f"{each['backbone']} {_figures(each)}" for each in self.tried[1:] if each["loss"] is not None]
        return (
            f"model.backbone: auto is {self.best.backbone} ({_figures(first)}), measured in {self.seconds:.0f} s on "
            f"{first['held_out']:,} held-out training photos{'; others: ' if others else ''}{', '.join(others)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "backbone": self.best.backbone,
            "weights": self.best.weights,
            "by": "loss of a probe on held-out training photos",
            "seconds": self.seconds,
            "tried": list(self.tried),
            "left_out": list(self.left_out),
            "text": self.sentence(),
        }


def _figures(tried: dict[str, Any]) -> str:
    return (
        f"loss {tried['loss']:.3f}, accuracy {tried['accuracy']:.3f} after {tried['photos']:,} photos, "
        f"{1000 * tried['seconds_a_photo']:.0f} ms a photo"
    )


class Measuring:
    """Measures candidates within a part of the minutes."""

    def __init__(
        self,
        recipe: Recipe,
        split: Split,
        paths: Paths,
        device: torch.device,
        seconds: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seconds` are left of the minutes; None: no limit."""
        self.recipe, self.split, self.device, self.seconds = recipe, split, device, seconds
        self.clock, self.began = clock, clock()
        self.budget = OPEN_SECONDS if seconds is None else SHARE * seconds
        self.left_out: list[str] = []
        self._paths, self._kept = paths, dict[str, Image.Image]()
        self.validation = len(split.part("val"))
        self._in_turn = in_proportion(split.part("train"), recipe.training.seed)
        self._label_of, classes = {name: label for label, name in enumerate(split.classes)}, len(split.classes)
        self._hold_out(max(HELD_OUT, HELD_OUT_A_CLASS * classes), FEWEST_A_CLASS * classes)

    def _hold_out(self, photos: int, fewest: int) -> None:
        """Sets photos aside, with their groups; `fewest` are fitted on at least."""
        held = max(1, min(photos, len(self._in_turn) // 4))
        groups = {row.group for row in self._in_turn[:held] if row.group}
        self.held, self.rest = self._in_turn[:held], [row for row in self._in_turn[held:] if row.group not in groups]
        self.fewest = min(len(self.rest), fewest)

    def best_of(self, candidates: Sequence[Candidate]) -> Measured | None:
        """The one that goes on; None if no candidate could be measured."""
        contenders = self._contenders(candidates)
        if not contenders:
            return None
        self._fit_into_time(contenders)
        share = self._first_share(contenders)
        alive, done = contenders, list[Contender]()
        while True:
            self._rung(alive, share)
            alive = sorted([each for each in alive if each.photos], key=lambda each: each.loss)
            is_last = len(alive) <= 2 or share >= 1 or self._gone() >= self.budget
            alive, keep = (_cheapest_of_equals(alive), 1) if is_last else (alive, (len(alive) + 1) // 2)
            done, alive = alive[keep:] + done, alive[:keep]
            if is_last:
                break
            share = min(1.0, 2 * share)
        order = [*alive, *done]
        tried = tuple(each.to_dict() for each in order)
        return Measured(order[0].candidate, tried, tuple(self.left_out), self._gone())

    def _gone(self) -> float:
        return self.clock() - self.began

    def _contenders(self, candidates: Sequence[Candidate]) -> list[Contender]:
        """Built, loaded and timed, while half of the time lasts; too slow ones only if all are."""
        found: list[Contender] = []
        for place, candidate in enumerate(candidates):
            if len(found) > 1 and self._gone() > self.budget / 2:
                self.left_out.append(f"no time for {', '.join(each.backbone for each in candidates[place:])}")
                break
            try:
                found.append(self._contender(candidate))
            except UsageError as error:
                self.left_out.append(f"{candidate.backbone}: {str(error).splitlines()[0][:200]}")
        quick = [each for each in found if each.sees >= self.fewest]
        for each in found if quick else ():
            if each not in quick:
                self.left_out.append(f"{each.candidate.backbone}: too slow ({each.seconds_a_photo:.2g} s a photo)")
        return quick or found[:1]

    def _contender(self, candidate: Candidate) -> Contender:
        own = {"backbone": candidate.backbone, "weights": candidate.weights}
        asked = self.recipe.model_copy(update={"model": self.recipe.model.model_copy(update=own)})
        full = resolved(asked, self.device)
        described = architecture(full, len(self.split.classes))
        side = full.data.image_size_px or _side(candidate.backbone, make_on_meta(described))
        demand_image_size(make_on_meta(described), side, candidate.backbone)
        sized = with_sizes(full, side, full.training.batch_size or BATCH)
        with repeatable(full.training.seed):
            model = make_classifier(described)
        load_weights(model, candidate.weights, candidate.backbone, self.split.classes)
        model = model.to(self.device).eval()
        if full.execution == "fast":
            model = model.to(memory_format=torch.channels_last)
        asked_for = full.training.precision
        precision = fastest_precision(self.device) if asked_for == "auto" else asked_for
        made = Contender(candidate, model, sized, preprocessing_of(sized), precision)
        self._extend(made, self.held[:TIMED])
        made.sees = self._sees(made.seconds_a_photo)
        return made

    def _sees(self, forward: float) -> int:
        """How many photos a probe could see in the minutes, beside the validation photos."""
        if self.seconds is None:
            return len(self.rest)
        left = TRAINED_SHARE * (self.seconds - self.budget) - self.validation * forward
        return max(0, min(len(self.rest), int(left / forward)))

    def _fit_into_time(self, contenders: list[Contender]) -> None:
        """Fewer photos where even the fewest would take too long, then fewer candidates."""
        classes = len(self.split.classes)
        while True:
            left = FOR_FORWARD * max(0.0, self.budget - self._gone())
            photos = int(left / sum(each.seconds_a_photo for each in contenders))
            if photos < len(self.held) + self.fewest:
                self._hold_out(max(TIMED, photos // 2), max(classes, photos // 2))
            if len(contenders) <= 2 or len(self.held) + self.fewest <= max(1, photos):
                return
            self.left_out.append(f"no time for {contenders.pop().candidate.backbone}")

    def _first_share(self, contenders: Sequence[Contender]) -> float:
        """Of the photos that each could see, so that all rungs fit in the time left."""
        rungs = max(1, len(contenders) - 1).bit_length()
        held = sum(each.seconds_a_photo for each in contenders) * len(self.held)
        cost = sum(each.sees * each.seconds_a_photo for each in contenders)
        left = FOR_FORWARD * (self.budget - self._gone()) - held
        return min(1.0, max(0.0, left) / max(1e-9, cost * (1 + (rungs - 1) / 2)))

    def _rung(self, alive: Sequence[Contender], share: float) -> None:
        for each in alive:
            photos = min(len(self.rest), max(self.fewest, int(share * each.sees)))
            self._extend(each, [*self.held, *self.rest[:photos]])
            features = np.concatenate(each.features)
            held = len(self.held)
            labels = np.array([self._label_of[row.class_name] for row in (*self.held, *self.rest[:photos])])
            each.losses, right = losses_beside(features[held:], labels[held:], features[:held], labels[:held])
            each.accuracy, each.photos = float(right.mean()), photos

    def _extend(self, contender: Contender, rows: Sequence[Row]) -> None:
        """Features of the rows that it has none of yet."""
        preprocessing, is_fast = contender.preprocessing, contender.recipe.execution == "fast"
        first = sum(len(some) for some in contender.features)
        for inputs in in_order(rows[first:], partial(self._input, preprocessing), BATCH):
            if any(inputs.reasons):
                raise UsageError(f"{next(filter(None, inputs.reasons))}; it was readable before")
            images = normalize(inputs.images.to(self.device), preprocessing)
            images = images.contiguous(memory_format=torch.channels_last) if is_fast else images
            began = self.clock()
            with torch.inference_mode(), precision_context(contender.precision, self.device)():
                contender.features.append(contender.model.backbone(images).float().cpu().numpy())
            contender.seconds.append((self.clock() - began) / len(images))

    def _input(self, preprocessing: Preprocessing, row: Row) -> torch.Tensor:
        """(3, height, width) uint8; each photo is decoded once, and kept shrunk."""
        if row.file not in self._kept:
            try:
                photo = photo_of(self._paths[row.file], self.recipe.data.max_megapixels, row.content_hash)
            except UnreadableError as error:
                raise UnreadableError(f"{row.file} {error}") from None
            self._kept[row.file] = shrunk_to(photo, MOST_SIDE_PX)
        return pixels(center(self._kept[row.file], preprocessing))


def _side(backbone: str, on_meta: Classifier) -> int:
    """Near the size at which costs are measured, where the plan chooses the size later."""
    sides = (MEASURED_SIDE_PX, *on_meta.interface.sizes_near(MEASURED_SIDE_PX)[::-1])
    for side in sides:
        try:
            demand_image_size(on_meta, side, backbone)
        except UsageError:
            continue
        return side
    return int(on_meta.interface.preprocessing["image_size_px"])


def _cheapest_of_equals(alive: list[Contender]) -> list[Contender]:
    """The best first; a cheaper one before it, if its loss is higher by no more than a standard error."""
    best = alive[0]
    for other in sorted(alive[1:], key=lambda each: each.seconds_a_photo):
        gap = other.losses - best.losses  # (held-out photos,)
        error = float(gap.std(ddof=1)) / len(gap) ** 0.5 if len(gap) > 1 else 0.0
        if other.seconds_a_photo < best.seconds_a_photo and float(gap.mean()) <= error:
            return [other, *(each for each in alive if each is not other)]
    return alive
