"""One training step, and the modes of a partly frozen network."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from fieldguide.training.ends import NotFinite
from fieldguide.training.loss import loss_of
from fieldguide.training.mixing import Mix, before
from fieldguide.training.scaling import GradientScaling
from fieldguide.training.state import Running, State, Step
from fieldguide.world import is_out_of_memory
from fieldguide.world.processes import NOT_FINE, LostProcessError, OutOfMemoryElsewhereError, Team

Precision = Callable[[], contextlib.AbstractContextManager[object]]  # a context: autocast, or none
FEWEST = 2  # photos at once; batch normalisation needs two


@dataclass
class MicroBatch:
    """How many photos go through the network at once; a step's gradient is still over all of its photos."""

    photos: int  # at most this many at once; of an odd batch in pairs, three go together
    was_halved: bool = False  # memory ran out in the last step; reset once it is reported

    def count(self, photos: int) -> int:
        """The fewest pieces of nearly equal size for so many photos, none of a single photo."""
        return max(1, min(-(-photos // self.photos), photos // FEWEST))

    def halve(self, batch: int) -> bool:
        """Halves the number of photos; false if that is impossible."""
        half = min(self.photos, batch) // 2
        if half < FEWEST:
            return False
        self.photos, self.was_halved = half, True
        return True


@dataclass(frozen=True)
class StepSettings:
    """The settings of a step."""

    label_smoothing: float  # in [0, 1)
    gradient_clip_norm: float | None  # gradients are scaled down to this norm
    precision: Precision  # of the forward pass
    micro_batch: MicroBatch = field(default_factory=lambda: MicroBatch(2**31))
    logit_adjustment: torch.Tensor | None = None  # (classes,) float32 on the device, added in the loss alone
    loss: str = "cross_entropy"  # a name in `LOSSES`
    scaling: GradientScaling | None = None  # of the loss, for fp16
    team: Team | None = None  # the processes that share a step's photos; None: this one takes them all

    def most_at_once(self, photos: int) -> int:
        """How many of a step's photos a process has at most."""
        return photos if self.team is None else self.team.most(photos)


def go_on_from(state: State, settings: StepSettings) -> None:
    """Takes the micro-batch and the scale that a saved training had reached."""
    if state.halved:
        settings.micro_batch.photos = state.halved[-1].photos
    if state.scaling is not None and settings.scaling is not None:
        settings.scaling.restore(state.scaling)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    settings: StepSettings,
    mix: Mix | None = None,
    photos: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward, backward, update, of (batch, 3, height, width) float32 normalised images and (batch,) int64 labels.

    `photos` is how many the step has in all processes; None: as many as there are images.

    Returns:
        The mean loss and the number of right answers, as tensors on the device, so that nothing waits for them. For
        mixed images the loss is against both classes, so it stays above 0 for a perfect network, and the class with the
        larger share counts as right.
    """
    loss, correct = gradients(model, images, labels, settings, mix, photos)
    most = settings.gradient_clip_norm
    clip = None if most is None else lambda: nn.utils.clip_grad_norm_(model.parameters(), most)
    if settings.scaling is not None:
        settings.scaling.step(optimizer, clip)
        return loss, correct
    if clip is not None:
        clip()
    optimizer.step()
    return loss, correct


def gradients(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    settings: StepSettings,
    mix: Mix | None = None,
    photos: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Puts the gradient of the step's mean loss into the parameters; arguments and result as of `train_step`.

    With several processes, each takes its part of the photos, and the first one gets the sums. Where memory runs out,
    in any of them, all repeat the step with half as many photos at once.
    """
    photos = len(images) if photos is None else photos
    batch = (images if mix is None else mix.images(images), labels, labels if mix is None else before(labels))
    if settings.team is not None:  # a photo of another process comes first where it is a partner
        start, stop = settings.team.part(photos)
        batch = tuple(part[len(images) - (stop - start) :] for part in batch)  # type: ignore[assignment]
    statistics, most = _Statistics(model), settings.most_at_once(photos)
    while True:
        try:
            loss, correct = _gradients(model, *batch, settings, mix, photos)
            if settings.team is not None:
                settings.team.demand_memory()
                return _summed(model, loss, correct, settings.team)
            return loss, correct
        except LostProcessError:
            statistics.restore()
            raise
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if settings.team is not None and not isinstance(error, OutOfMemoryElsewhereError):
                settings.team.agree(NOT_FINE)
            if not settings.micro_batch.halve(most):
                raise
        statistics.restore()


def _summed(
    model: nn.Module, loss: torch.Tensor, correct: torch.Tensor, team: Team
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adds up gradients, loss and count in the first process; the others' stay parts."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    unused = [parameter for parameter in learning if parameter.grad is None]
    for parameter in unused:
        parameter.grad = torch.zeros_like(parameter)
    figures = torch.stack([loss.float(), correct.float()])
    team.add_up([*(parameter.grad for parameter in learning if parameter.grad is not None), figures])
    if team.rank == 0:  # its part is never empty: what it does not use, nobody does
        for parameter in unused:
            parameter.grad = None
    return figures[0], figures[1].long()


def _gradients(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    partners: torch.Tensor,
    settings: StepSettings,
    mix: Mix | None,
    photos: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Accumulates the gradient of this process's part of the mean loss, one micro-batch after the other."""
    for parameter in model.parameters():
        if parameter.requires_grad:  # as the optimiser clears them
            parameter.grad = None
    count = settings.micro_batch.count(settings.most_at_once(photos))
    losses, correct = [], []
    for some, their, other in zip(*(part.tensor_split(count) for part in (images, labels, partners)), strict=True):
        if not len(some):
            losses.append(_join_layers(model, some, settings))
            continue
        with settings.precision():
            logits = model(some)
        loss = loss_of(
            logits,
            their,
            other,
            name=settings.loss,
            label_smoothing=settings.label_smoothing,
            logit_adjustment=settings.logit_adjustment,
            mix=mix,
        )
        loss = loss * (len(some) / photos)
        if settings.scaling is None:
            torch.autograd.backward(loss)
        else:
            settings.scaling.backward(loss)
        losses.append(loss.detach())
        right = their if mix is None else mix.larger(their, other)
        correct.append((logits.detach().argmax(dim=1) == right).sum())
    counts = torch.stack(correct).sum() if correct else torch.zeros((), dtype=torch.int64, device=images.device)
    return torch.stack(losses).sum(), counts


def _join_layers(model: nn.Module, nothing: torch.Tensor, settings: StepSettings) -> torch.Tensor:
    """A process without a photo takes part in what layers exchange; returns the loss, 0."""
    assert settings.team is not None, "a step without photos"
    if settings.team.meets_in_layers:
        with settings.precision():
            logits = model(nothing)
        torch.autograd.backward(logits.float().sum())
    return torch.zeros((), device=nothing.device)


class _Statistics:
    """A network's buffers before a step, to restore them if the step is repeated."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers: dict[torch.dtype, list[torch.Tensor]] = {}
        for buffer in model.buffers() if model.training else ():
            if buffer.numel():
                self._buffers.setdefault(buffer.dtype, []).append(buffer)
        self._before = {kind: [torch.empty_like(buffer) for buffer in own] for kind, own in self._buffers.items()}
        for kind, own in self._buffers.items():
            torch._foreach_copy_(self._before[kind], own)  # on a GPU a few launches instead of one per buffer

    def restore(self) -> None:
        """Restores them."""
        for kind, own in self._buffers.items():
            torch._foreach_copy_(own, self._before[kind])


class OnDevice:
    """Losses and counts of steps that the host has not waited for, so that a GPU keeps working."""

    MOST_STEPS = 16  # between two reads of the loss on a GPU; a CPU has nothing to wait for

    def __init__(self) -> None:
        self._steps: list[tuple[torch.Tensor, torch.Tensor, tuple[str, ...], float]] = []

    def add(self, loss: torch.Tensor, correct: torch.Tensor, files: tuple[str, ...], learning_rate: float) -> None:
        """Takes a step's mean loss and count of right answers, the names of its photos, and its learning rate."""
        self._steps.append((loss, correct, files, learning_rate))

    @property
    def is_full(self) -> bool:
        """Whether it is time to read them."""
        return len(self._steps) >= (1 if self._steps[-1][0].device.type == "cpu" else self.MOST_STEPS)

    def collect(self, running: Running, epoch: int) -> list[Step]:
        """Adds the steps to the epoch's sums, waiting for the device; returns them, or raises NotFinite."""
        if not self._steps:
            return []
        losses = torch.stack([loss for loss, *_ in self._steps]).tolist()
        counts = torch.stack([correct for _, correct, *_ in self._steps]).tolist()
        first, found = running.steps - len(self._steps) + 1, []
        for step, (loss, right, (*_, files, rate)) in enumerate(zip(losses, counts, self._steps, strict=True), first):
            if not math.isfinite(loss):
                raise NotFinite("loss", epoch, step, files)
            running.add(len(files), loss, right)
            found.append(Step(epoch, step, len(files), rate, loss, right))
        self._steps.clear()
        return found


def training_mode(module: nn.Module) -> None:
    """Training mode; parts that are entirely frozen keep their statistics and use no dropout."""
    module.train()
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            child.eval()
        else:
            training_mode(child)
