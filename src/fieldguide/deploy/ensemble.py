"""An ensemble: the mean of several classifiers' probabilities."""

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax, logsumexp

from fieldguide.deploy.answers import Answer, Answering
from fieldguide.deploy.counted import Counted
from fieldguide.deploy.names import BATCH_SIZE
from fieldguide.deploy.photos import Photo
from fieldguide.deploy.predictor import Predictor
from fieldguide.errors import UsageError, listing


@final
class Ensemble(Answering):
    """Classifiers with the same classes, whose probabilities are averaged (Lakshminarayanan et al. 2017, section 2.4).

    Each member has its own preprocessing, engine and temperature. Use it like a `Predictor`. Its logits are the
    logarithm of the mean probability, so their softmax is that mean and its own temperature is 1.
    Classes are in the order of the first member.
    """

    temperature = 1.0

    def __init__(self, members: Sequence[Predictor], names: Sequence[str]) -> None:
        """Joins members of these names; raises UsageError if their classes differ, and says how."""
        demand_same_classes([member.classes for member in members], names)
        self.members = tuple(members)
        self.classes = members[0].classes
        self.is_calibrated = all(member.is_calibrated for member in members)
        self.max_megapixels = min(member.max_megapixels for member in members)
        self._orders = [[member.classes.index(name) for name in self.classes] for member in members]

    @property
    def served_by(self) -> str:
        """See `Answering`, of all members."""
        return ", ".join(dict.fromkeys(member.served_by for member in self.members))

    @property
    def counted(self) -> Counted:
        """See `Answering`; the largest counts of any member."""
        return Counted(*map(max, zip(*(member.counted for member in self.members), strict=True)))

    @property
    def engine_batch_size(self) -> int:
        """See `Answering`; the smallest of the members."""
        return min(member.engine_batch_size for member in self.members)

    @property
    def engines(self) -> tuple[str, ...]:
        """See `Answering`, of all members."""
        return tuple(name for member in self.members for name in member.engines)

    def raise_bound(self, max_megapixels: float) -> None:
        """See `Answering`, for all members."""
        self.max_megapixels = max_megapixels
        for member in self.members:
            member.raise_bound(max_megapixels)

    def settle(self, engines: Sequence[str]) -> None:
        """See `Answering`, of all members."""
        for member, name in zip(self.members, engines, strict=False):
            member.settle([name])

    @property
    def remarks(self) -> tuple[str, ...]:
        """See `Answering`, of all members."""
        return tuple(dict.fromkeys(remark for member in self.members for remark in member.remarks))

    def ready_for_few(self) -> None:
        """See `Answering`, of all members."""
        for member in self.members:
            member.ready_for_few()

    def load(self, photo: Photo) -> tuple[torch.Tensor, ...]:
        """See `Answering`; what each member takes."""
        return tuple(member.load(photo) for member in self.members)

    def answered(self, loaded: Sequence[tuple[torch.Tensor, ...]]) -> list[npt.NDArray[np.float32]]:
        """See `Answering`; the logarithms of mean probabilities."""
        of_members = [member.answered(own) for member, own in zip(self.members, zip(*loaded, strict=True), strict=True)]
        return [self._mean(rows) for rows in zip(*of_members, strict=True)]

    def logits(self, images: Iterable[Any], *, batch_size: int = BATCH_SIZE) -> Iterator[Answer]:
        """Each photo with the (num_classes,) logarithms of its mean probabilities, or with None and the reason."""
        count = len(self.members)
        sources = [images] * count if isinstance(images, Sized) else list(itertools.tee(images, count))
        of_members = [
            member.logits(own, batch_size=batch_size) for member, own in zip(self.members, sources, strict=True)
        ]
        for answers in zip(*of_members, strict=True):
            found = [logits for _, logits, _ in answers if logits is not None]
            reason = next((reason for _, logits, reason in answers if logits is None), "")
            yield answers[0][0], None if reason else self._mean(found), reason

    def _mean(self, found: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        if not all(np.isfinite(logits).all() for logits in found):
            return np.full(len(self.classes), np.nan, dtype=np.float32)  # its readers say so
        logs = [
            log_softmax(logits.astype(np.float64) / member.temperature)[order]
            for member, order, logits in zip(self.members, self._orders, found, strict=True)
        ]  # (members, classes)
        return np.asarray(logsumexp(logs, axis=0) - np.log(len(logs)), dtype=np.float32)


def demand_same_classes(classes: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    """Checks that all members have the same classes; their order may differ.

    Raises:
        UsageError: a class is missing in a member; each is named.
    """
    problems = []
    for own, name in zip(classes[1:], names[1:], strict=True):
        for which, here, there in ((name, own, classes[0]), (names[0], classes[0], own)):
            if more := [label for label in here if label not in set(there)]:
                other = names[0] if which == name else name
                problems.append(
                    f"{which}: {len(more):,} of its {len(here):,} classes are not in {other}; "
                    f"the runs of an ensemble need the same classes:\n{listing(more)}"
                )
    if problems:
        raise UsageError(*problems)
