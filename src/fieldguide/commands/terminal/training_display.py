"""What a person sees while a training runs: a live table on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from fieldguide.commands.terminal.screen import Screen
from fieldguide.errors import counted, duration, shown_rate
from fieldguide.training.observers import Callback
from fieldguide.training.plan import Ended, Stage
from fieldguide.training.state import Epoch, Halved, Running, State

SHOWN_EPOCHS = 12


class TrainingDisplay(Callback):
    """Follows a training: phase, round, epoch, images/s, time left, losses and accuracies."""

    def __init__(
        self,
        screen: Screen,
        most_epochs: int,
        images_per_epoch: int,
        metric: str = "accuracy",
        epochs: Sequence[Epoch] = (),
    ) -> None:
        self.screen = screen
        self.metric = metric
        self.most_epochs = most_epochs
        self.images_per_epoch = images_per_epoch
        self.stage: Stage | None = None
        self.epochs = list(epochs)
        self.epoch_began = time.perf_counter()
        self.images_done = self.images_before = 0
        self.is_live = screen.is_live
        text, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
        self._progress = Progress(text, BarColumn(), MofNCompleteColumn(), note, console=screen.console)
        self._task: TaskID = self._progress.add_task("", total=images_per_epoch, note="")
        self._live = Live(console=screen.console, refresh_per_second=4, get_renderable=self._render)

    @contextmanager
    def running(self) -> Iterator["TrainingDisplay"]:
        """Shows the table during the training, and leaves it on the screen."""
        if not self.is_live:
            yield self
            return
        with self._live:
            try:
                yield self
            finally:
                self._progress.update(self._task, visible=False)

    def stage_begins(self, stage: Stage, state: State) -> None:
        """Before a stage's first epoch."""
        self.stage = stage
        start = f" from the model of epoch {state.best.epoch.epoch}" if state.best else ""
        augmented, most = f"{stage.augmentation} augmentation", counted(stage.max_epochs, "epoch")
        how = (
            f"{augmented}, learning rate {shown_rate(stage.learning_rate)}, at most {most}, {stage.trainable} trainable"
        )
        if stage.method == "probe":
            how = f"fit the head by logistic regression on features of the frozen backbone, {augmented}"
        if not self.is_live:
            self.screen.say(f"{stage.label}{start}: {how}")
        self._begin_epoch()

    def planned_again(self, stage: Stage) -> None:
        """Where the time allows a stage another number of epochs."""
        epochs, *earlier = (epochs for _, epochs in reversed(stage.replanned))
        before = earlier[0] if earlier else stage.max_epochs
        self.most_epochs += math.ceil(epochs) - math.ceil(before)
        why = "the machine is slower than planned" if epochs < before else "there is time for more"
        many = f"{epochs:.3g} {'epoch' if epochs == 1 else 'epochs'}"
        self._tell(f"{stage.label}: planned again, {many} in all, not {before:.3g}; {why}")

    def stage_resumes(self, stage: Stage, state: State, running: Running) -> None:
        """Where a saved training resumes within a stage."""
        self.stage = stage
        epoch, steps = len(state.history) + 1, counted(running.steps, "step")
        self.screen.say(f"{stage.label} resumes in epoch {epoch}, after {steps}")
        self._begin_epoch()
        self.images_before = self.images_done = running.images

    def step_done(self, images: int) -> None:
        """After a step."""
        self.images_done += images
        if self.is_live:
            seconds = max(time.perf_counter() - self.epoch_began, 1e-9)
            note = f"{(self.images_done - self.images_before) / seconds:.0f} images/s{self._time_left()}"
            self._progress.update(self._task, completed=self.images_done, note=note)

    def epoch_done(self, epoch: Epoch, state: State) -> None:
        """After an epoch."""
        self.epochs.append(epoch)
        if not self.is_live:
            best = "  best so far" if epoch.best else ""
            rate = f"rate {shown_rate(epoch.learning_rate)}  " if epoch.learning_rate else ""
            self.screen.say(
                f"  epoch {epoch.epoch:>3}  {rate}"
                f"training loss {epoch.training.loss:.4f} accuracy {epoch.training.accuracy:.4f}  "
                f"validation loss {epoch.validation.loss:.4f} {self._accuracy} "
                f"{epoch.validation.accuracy_by(self.metric):.4f}  "
                f"{epoch.images_per_second:.0f} images/s{self._time_left()}{best}"
            )
        self._begin_epoch()

    def stage_done(self, ended: Ended) -> None:
        """After a stage's last epoch."""
        dropped = "" if ended.improved else "; no better model, so the earlier one stays"
        self._progress.update(self._task, visible=False)  # no further epoch, until another stage begins
        self._tell(f"{ended.stage.label}: {counted(ended.epochs, 'epoch')}, {ended.sentence()}{dropped}")

    def halved(self, halved: Halved) -> None:
        """After a step that ran out of memory."""
        text = (
            f"warning: out of memory in epoch {halved.epoch}, step {halved.step}; the step was repeated. From now on "
            f"{halved.photos} photos go through the network at once; the batch size stays the same"
        )
        self._tell(text, "yellow")

    def skipped(self, epoch: int, steps: int) -> None:
        """After steps whose fp16 gradients overflowed."""
        what = f"{counted(steps, 'step')} skipped, because fp16 gradients overflowed"
        self._tell(f"epoch {epoch}: {what}; a few are usual")

    def _tell(self, text: str, style: str | None = None) -> None:
        if self.is_live:
            self._live.console.print(text, style=style, markup=False)
        else:
            self.screen.say(text, style)

    def _begin_epoch(self) -> None:
        self.epoch_began, self.images_done, self.images_before = time.perf_counter(), 0, 0
        stage = self.stage.label if self.stage else ""
        description = f"{stage}, epoch {len(self.epochs) + 1}"
        self._progress.reset(self._task, total=self.images_per_epoch, description=description, note="", visible=True)

    @property
    def _accuracy(self) -> str:
        return self.metric.replace("_", " ")

    def _time_left(self) -> str:
        """An upper limit: phases and rounds may end earlier."""
        recent = [epoch for epoch in self.epochs if epoch.learning_rate][-3:]  # a probe's time says nothing of epochs
        if not recent:
            return ""
        left = max(0, self.most_epochs - len(self.epochs)) * sum(e.seconds for e in recent) / len(recent)
        return f"  at most {duration(left)} left" if left >= 1 else ""

    def _render(self) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0))
        losses = ("training loss", "accuracy", "validation loss", self._accuracy)
        for column in ("epoch", "stage", "rate", *losses, "images/s", ""):
            table.add_column(column, justify="left" if column == "stage" else "right")
        for epoch in self.epochs[-SHOWN_EPOCHS:]:
            table.add_row(
                str(epoch.epoch),
                epoch.stage,
                shown_rate(epoch.learning_rate) if epoch.learning_rate else "",
                f"{epoch.training.loss:.4f}",
                f"{epoch.training.accuracy:.2%}",
                f"{epoch.validation.loss:.4f}",
                f"{epoch.validation.accuracy_by(self.metric):.2%}",
                f"{epoch.images_per_second:.0f}",
                "best" if epoch.best else "",
                style="bold" if epoch.best else None,
            )
        return Group(table, self._progress)
