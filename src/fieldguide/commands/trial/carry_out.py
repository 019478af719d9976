"""One training in its run's folder, from live objects to a result, whether it begins or resumes."""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from fieldguide import world
from fieldguide.commands.judging.seen import write_seen
from fieldguide.commands.terminal.faults import how_to_go_on
from fieldguide.commands.terminal.interrupts import Interrupts
from fieldguide.commands.terminal.training_display import TrainingDisplay
from fieldguide.commands.trial.judge_run import judge_and_write
from fieldguide.commands.trial.live import Trial
from fieldguide.commands.trial.recorder import Recorder
from fieldguide.commands.trial.request import Request, write_recipe, write_request
from fieldguide.commands.trial.result import report_result, soup_sentence
from fieldguide.commands.trial.together import led
from fieldguide.data.split.partition import split_csv, write_split
from fieldguide.deploy.predictor import Predictor, load_predictor
from fieldguide.errors import SIGNAL_EXIT_CODES, Interrupted, NotFiniteError, TrainingError, counted, duration
from fieldguide.recipe.resolve import as_done
from fieldguide.storage import digest, write_json
from fieldguide.training.ends import Stopped
from fieldguide.training.loop import Saved
from fieldguide.training.loop import train as train_loop
from fieldguide.training.observers import Beginning, Observers
from fieldguide.training.plan import Plan
from fieldguide.training.state import State
from fieldguide.world.convolutions import convolutions, cudnn_modes

WORTH_TELLING_SECONDS = 20  # of the minutes, if nothing was made of them


@dataclass(frozen=True)
class Run:
    """A training that has ended.

    Attributes:
        path: the run's folder.
        result: the content of its `result.json`.
    """

    path: Path
    result: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0; 129, 130 or 143 if a signal ended it; 1 if something else did."""
        stopped = self.result["stopped"]
        return 0 if stopped is None else SIGNAL_EXIT_CODES.get(stopped.get("signal"), 1)

    def __repr__(self) -> str:
        """`Run(runs/a, validation accuracy 0.9123)`."""
        judged = self.result.get("validation") or {}
        accuracy = f", validation accuracy {judged['accuracy']:.4f}" if "accuracy" in judged else ""
        return f"Run({self.path}{accuracy}{', stopped' if self.result.get('stopped') else ''})"

    def load(self, device: world.Device = "auto") -> Predictor:
        """The trained classifier."""
        return load_predictor(self.path, device)


def write_beginning(trial: Trial) -> None:
    """Writes a run's first files. The request comes first; once it is there, the run can resume."""
    source = trial.prepared.folder.asked_for.resolved()
    request = Request(
        photos=str(source.path),
        recipe_name=trial.name,
        recipe=trial.recipe.model_dump(mode="json"),
        split_sha256=digest(split_csv(trial.split).encode()),
        remarks=trial.prepared.sentences,
        rules=trial.rules,
        weights=trial.assembled.weights.to_dict(),
        device=trial.device,
        plan=trial.assembled.told,
        compiling=trial.assembled.compiling,
        photos_folder=None if source.photos is None else str(source.photos),
        columns=source.columns,
        backbones=trial.prepared.backbones,
    )
    write_request(trial.run, request)
    write_rest_of_beginning(trial)


def write_rest_of_beginning(trial: Trial) -> None:
    """Writes the first files that are missing; an earlier process may have been killed between them."""
    run = trial.run
    run.make()
    if not run.recipe.exists():
        write_recipe(run, trial.recipe, trial.name)
    if not run.environment.exists():
        machine = world.describe_machine(world.choose_device(trial.device))
        write_json(run.environment, machine | {"cudnn": cudnn_modes(trial.recipe.execution)})
    if not run.split.exists():
        write_split(run.split, trial.split)
    if not run.seen_before.exists():
        write_seen(run, trial.prepared.seen)
    if not run.check.exists():
        write_json(run.check, trial.prepared.check)


def carry_out(trial: Trial, saved: Saved | None = None) -> Run:
    """Trains, judges the bundle that was written, and leaves result and report.

    Raises Interrupted or TrainingError if a signal or an error came before the first epoch ended, TrainingError if a
    callback failed, and KeyboardInterrupt at a second SIGINT in the training or any signal after it.
    """
    epochs = saved.state.history if saved else []
    most = trial.assembled.plan.most_epochs() + sum(more.epochs for more in (saved.state.more if saved else ()))
    display = TrainingDisplay(trial.screen, most, len(trial.split.part("train")), trial.recipe.training.metric, epochs)
    recorder = Recorder(trial.run, trial.assembled.description)
    observers = Observers((recorder, display, trial.checkpoints), trial.callbacks)
    try:
        with Interrupts() as interrupts, world.random_state_kept():
            state = _train(trial, saved, interrupts, observers, display)
            interrupts.at_once = True
            if interrupts.received and not state.stopped:  # in the last validation: no step follows
                raise KeyboardInterrupt(interrupts.received)
            _write_what_was_done(trial, state)
            result = judge_and_write(trial, state)
        observers.tell(lambda each: each.run_done(result))
        demand_no_failed_callback(observers, f"the run is complete: {trial.run.path}")
    except BaseException as error:
        trial.checkpoints.writer.end()  # before the run's lock goes
        observers.run_failed(error)
        raise
    feed = trial.assembled.feed
    for sentence in feed.remarks_after():
        trial.screen.warn(sentence)
    trial.screen.say(feed.waiting.sentence())
    report_result(trial.run, result, trial.screen)
    left, pace = None if trial.seconds_left is None else trial.seconds_left(), trial.assembled.plan.pace
    if left is not None and pace is not None and left >= WORTH_TELLING_SECONDS and state.stopped is None:
        trial.screen.say(unused(left, state.history[-1].seconds if len(state.history) > 1 else pace.epoch_seconds))
    return Run(trial.run.path, result)


def unused(seconds: float, epoch_seconds: float) -> str:
    """What is left of the minutes, and why nothing was made of it."""
    takes = (
        "no epoch fits" if math.isinf(epoch_seconds) else f"another epoch would take about {duration(epoch_seconds)}"
    )
    why = takes if epoch_seconds > seconds else "the plan has no more epochs"
    return f"{duration(seconds)} of the minutes unused: {why}"


def _write_what_was_done(trial: Trial, state: State) -> None:
    """Puts into the recipe how time changed the plan, so that it gives the same numbers again."""
    if state.stopped is not None:
        return
    done = iter([ended.stage.replanned for ended in state.ended if ended.stage.kind == "phase"])
    not_begun = ((0.0, 0.0),) if state.out_of_time or _is_spare(trial.assembled.plan) else ()
    phases = trial.recipe.training.phases
    replanned = [phase.replanned if phase.is_left_out else next(done, not_begun) for phase in phases]
    if replanned != [phase.replanned for phase in phases]:
        write_recipe(trial.run, as_done(trial.recipe, replanned), trial.name)


def _is_spare(plan: Plan) -> bool:
    """Whether its epochs were planned only for time that the probe may leave."""
    return plan.pace is not None and plan.pace.is_spare


def demand_no_failed_callback(observers: Observers, what_now: str) -> None:
    """Raises TrainingError if a callback failed; its own exception is the cause."""
    if observers.error is not None:
        assert observers.stopped is not None
        raise TrainingError(f"{observers.stopped.sentence()}; {what_now}") from observers.error


def _train(
    trial: Trial, saved: Saved | None, interrupts: Interrupts, observers: Observers, display: TrainingDisplay
) -> State:
    """Trains, and says so if it ended early."""
    assembled, now = trial.assembled, how_to_go_on(trial.run)
    observers.tell(lambda each: each.run_begins(_beginning(trial, saved)))
    demand_no_failed_callback(observers, now)
    seed, execution = trial.recipe.training.seed, trial.recipe.execution
    with world.repeatable(seed), convolutions(execution), display.running(), led(trial) as tools:
        state = train_loop(assembled.model, assembled.plan, tools, observers, interrupts.reason, saved)
    demand_no_failed_callback(observers, now)
    if state.soup is not None and state.best is not None:
        trial.screen.say(soup_sentence(state.soup, assembled.plan.best_by, assembled.plan.metric))
    if state.stopped is not None:
        _say_what_stopped_it(trial, state, state.stopped)
        return state
    waiting = [] if state.more else [stage.label for stage in assembled.plan.phases[len(state.ended) :]]
    if state.out_of_time:
        trial.screen.warn(_out_of_time(state))
    elif waiting and _is_spare(assembled.plan):
        trial.screen.say(f"the probe left no time for {', '.join(waiting)}")
    elif waiting:
        trial.screen.warn(f"reached training.max_epochs before {', '.join(waiting)} could begin")
    return state


def _beginning(trial: Trial, saved: Saved | None) -> Beginning:
    return Beginning(
        folder=trial.run.path,
        recipe_name=trial.name,
        recipe=trial.recipe.model_dump(mode="json"),
        classes=trial.split.classes,
        photos={part: len(trial.split.part(part)) for part in ("train", "val", "test", "excluded")},
        device=str(world.choose_device(trial.device)),
        epochs_done=len(saved.state.history) if saved else 0,
    )


def _say_what_stopped_it(trial: Trial, state: State, stopped: Stopped) -> None:
    """Says what is kept and what to do; raises if no epoch ended, so that there is no model to judge."""
    if state.best is None:
        _give_up(trial, state, stopped)
    trial.screen.warn(f"{stopped.sentence()}; the best model so far, of epoch {state.best.epoch.epoch}, is kept")
    trial.screen.warn(_what_now(trial, state))


def _out_of_time(state: State) -> str:
    """What was cut short by time."""
    ended, last = state.ended[-1], state.history[-1]
    if ended.stage.method == "probe":
        what = f"{ended.stage.label} on {counted(last.training.images, 'training photo')}"
    else:
        what = f"epoch {ended.epochs} of {ended.stage.epochs_before_a_cut:.3g} of {ended.stage.label}"
    kept = "the mean of epochs" if state.soup is not None and state.soup.is_kept else "the best model so far"
    return f"out of time after {what}; {kept} is kept"


def _give_up(trial: Trial, state: State, stopped: Stopped) -> NoReturn:
    """Raises Interrupted or TrainingError, because no epoch ended, so that there is no model."""
    told = stopped.sentence()
    if stopped.signal:
        early = f"{told} before the first epoch ended, so there is no model yet"
        raise Interrupted(stopped.signal, f"{early}; {how_to_go_on(trial.run)}")
    trial.run.remove_without_checkpoint()
    kind = NotFiniteError if stopped.is_spoilt else TrainingError
    raise kind(f"{told}\n{_what_now(trial, state)}" if trial.run.can_go_on else told)


def _what_now(trial: Trial, state: State) -> str:
    if not state.is_spoilt:
        return how_to_go_on(trial.run)
    rate = trial.recipe.training.learning_rate / 10
    start = (" from the best model", f"--weights {shlex.quote(str(trial.run.path))} ") if state.best else ("", "")
    return (
        f"resuming would fail again; start a new run{start[0]} with another setting, such as: fieldguide train PHOTOS "
        f"{start[1]}--set training.learning_rate={rate:g} -o ANOTHER"
    )
