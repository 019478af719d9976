"""One training in its run's folder, from live objects to a result; the same whether it begins or goes on."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldguide import assemble, world
from fieldguide.commands.judging.judge import judge_photos
from fieldguide.commands.judging.seen import write_seen
from fieldguide.commands.terminal.faults import how_to_go_on
from fieldguide.commands.terminal.interrupts import EXIT_CODES, Interrupts
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.terminal.training_display import TrainingDisplay
from fieldguide.commands.trial.choose_size import settle_size
from fieldguide.commands.trial.keep import keep_for_report
from fieldguide.commands.trial.prepare import Prepared
from fieldguide.commands.trial.request import Request, write_recipe, write_request
from fieldguide.commands.trial.result import report_result, result_of, soup_sentence
from fieldguide.data.read.photo_pixels import ToJudge
from fieldguide.data.split.partition import Split, split_csv, write_split
from fieldguide.deploy.predictor import Predictor, load_predictor
from fieldguide.errors import Interrupted, NotFiniteError, TrainingError, counted
from fieldguide.evaluation.calibration import calibration_summary
from fieldguide.evaluation.predictions import read_predictions, write_predictions
from fieldguide.model.bundle import write_bundle, write_temperature
from fieldguide.recipe.lives import SettledRecipe
from fieldguide.report.figures import draw_curves
from fieldguide.report.write import report as write_report
from fieldguide.run_folder import RunFolder
from fieldguide.storage import digest, write_json
from fieldguide.training.budget import RESERVE
from fieldguide.training.checkpoint_files import Checkpoints
from fieldguide.training.loop import Saved
from fieldguide.training.loop import train as train_loop
from fieldguide.training.state import Epoch, State

WAITED = "waited_for_data"  # seconds waited and seconds in all, beside a checkpoint


@dataclass(frozen=True)
class Run:
    """A training that ended.

    Attributes:
        path: the run's folder.
        result: what stands in its `result.json`.
    """

    path: Path
    result: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0; 129, 130 or 143 where a signal ended it; 1 where something else did."""
        stopped = self.result["stopped"]
        return 0 if stopped is None else EXIT_CODES.get(stopped.get("signal"), 1)

    def __repr__(self) -> str:
        """`Run(runs/a, validation accuracy 0.9123)`."""
        judged = self.result.get("validation") or {}
        accuracy = f", validation accuracy {judged['accuracy']:.4f}" if "accuracy" in judged else ""
        return f"Run({self.path}{accuracy}{', stopped' if self.result.get('stopped') else ''})"

    def load(self, device: world.Device = "auto") -> Predictor:
        """The trained classifier."""
        return load_predictor(self.path, device)


@dataclass(frozen=True)
class Trial:
    """All that one training consists of.

    Attributes:
        name: the recipe's.
        recipe: as it is carried out.
        prepared: photos and split.
        run: its folder, held by this process.
        device: as the user named it.
        assembled: the live objects.
        rules: the verdict.
        screen: where to show it.
        seconds_left: of its minutes, whenever it is asked; None: there is no bound.
    """

    name: str
    recipe: SettledRecipe
    prepared: Prepared
    run: RunFolder
    device: str
    assembled: assemble.Assembled
    rules: dict[str, Any]
    screen: Screen
    seconds_left: Callable[[], float] | None = None

    @property
    def split(self) -> Split:
        """Which photo is in which part."""
        return self.prepared.split

    @property
    def checkpoints(self) -> Checkpoints:
        """Where it saves itself."""
        waiting = self.assembled.feed.waiting
        minutes = self.recipe.training.checkpoint_every_minutes
        return Checkpoints(self.run.checkpoints, minutes, lambda: {WAITED: waiting.told()})


def write_beginning(trial: Trial) -> None:
    """What a run holds before its first step. The request comes first: from then on the run can go on."""
    run = trial.run
    request = Request(
        photos=str(trial.prepared.folder.root.resolve()),
        recipe_name=trial.name,
        recipe=trial.recipe.model_dump(mode="json"),
        split_sha256=digest(split_csv(trial.split).encode()),
        remarks=trial.prepared.sentences,
        rules=trial.rules,
        weights=trial.assembled.weights.to_dict(),
        device=trial.device,
        plan=trial.assembled.told,
    )
    write_request(run, request)
    write_rest_of_beginning(trial)


def write_rest_of_beginning(trial: Trial) -> None:
    """Writes what is missing of it, for a process may have been killed in between."""
    run = trial.run
    run.make()
    if not run.recipe.exists():
        write_recipe(run, trial.recipe, trial.name)
    if not run.environment.exists():
        write_json(run.environment, world.describe_machine(world.choose_device(trial.device)))
    if not run.split.exists():
        write_split(run.split, trial.split)
    if not run.seen_before.exists():
        write_seen(run, trial.prepared.seen)
    if not run.check.exists():
        write_json(run.check, trial.prepared.check)


def carry_out(trial: Trial, saved: Saved | None = None) -> Run:
    """Trains, judges the bundle that was written, and leaves result and report.

    Raises:
        Interrupted: a signal came before the first epoch ended; what was done is saved.
        TrainingError: something else ended it before the first epoch ended.
        KeyboardInterrupt: a second SIGINT in the training, or any signal after it.
    """
    run, screen = trial.run, trial.screen
    with Interrupts() as interrupts:
        state = _train(trial, saved, interrupts)
        interrupts.at_once = True
        if interrupts.received and not state.stopped:  # in the last validation: saved, with no step left to stop after
            raise KeyboardInterrupt(interrupts.received)
        test_time = settle_size(
            run,
            trial.recipe,
            trial.split.part("val"),
            trial.assembled.to_judge,
            trial.device,
            screen,
            seconds=0 if state.stopped else _seconds_to_try(trial),  # whoever stopped it waits
        )
        judged = _judge(run, trial.split, trial.assembled.to_judge, trial.device) | {"test_time": test_time}
        draw_curves(run)
        screen.say("drawing the report")
        keep_for_report(run, read_predictions(run.predictions), trial.assembled.to_judge, trial.device)
        result = result_of(
            trial.name,
            trial.recipe,
            trial.assembled,
            trial.rules,
            trial.split,
            trial.prepared.sentences,
            state,
            judged,
            run.test_evaluations(),
        )
        run.write_result(result)
        write_report(run.path)
    for sentence in trial.assembled.feed.remarks_after():
        screen.warn(sentence)
    screen.say(trial.assembled.feed.waiting.sentence())
    report_result(run, result, screen)
    return Run(run.path, result)


class _Recorder(TrainingDisplay):
    """Shows the training, and writes each epoch and each better model as soon as it is there."""

    def __init__(self, trial: Trial, state: State) -> None:
        most = trial.assembled.plan.most_epochs() + sum(more.epochs for more in state.more)
        super().__init__(trial.screen, most, len(trial.split.part("train")), trial.recipe.training.metric)
        self.epochs = list(state.history)
        self.assembled = trial.assembled
        self.run = trial.run

    def epoch_done(self, epoch: Epoch, state: State) -> None:
        """Writes, then shows."""
        if epoch.best and state.best is not None:
            write_bundle(self.run.bundle, self.assembled.description, state.best.weights)
        self.run.write_history([done.to_dict() for done in state.history])
        super().epoch_done(epoch, state)


def _train(trial: Trial, saved: Saved | None, interrupts: Interrupts) -> State:
    """Trains and says why it ended, if that was before its end."""
    assembled, checkpoints = trial.assembled, trial.checkpoints
    recorder = _Recorder(trial, saved.state if saved else State())
    with world.repeatable(trial.recipe.training.seed), recorder.running():
        state = train_loop(
            assembled.model, assembled.plan, assembled.tools, recorder, interrupts.reason, checkpoints, saved
        )
    if state.soup is not None and state.best is not None:
        trial.screen.say(soup_sentence(state.soup, assembled.plan.best_by, assembled.plan.metric))
        if state.soup.is_kept:
            write_bundle(trial.run.bundle, assembled.description, state.best.weights)
    if not state.stopped:
        checkpoints.finish(state)
        if state.out_of_time:
            trial.screen.warn(_out_of_time(state))
            return state
        waiting = [] if state.more else [stage.label for stage in assembled.plan.phases[len(state.ended) :]]
        if waiting:
            trial.screen.warn(f"training.max_epochs was used up before {', '.join(waiting)} could begin")
        return state
    if state.best is None:
        _give_up(trial, state)
    assert state.best is not None
    trial.screen.warn(f"{state.stopped.sentence()}; the best model so far, of epoch {state.best.epoch.epoch}, is kept")
    trial.screen.warn(_what_now(trial, state))
    return state


def _out_of_time(state: State) -> str:
    """What the time cut off."""
    ended, last = state.ended[-1], state.history[-1]
    if ended.stage.method == "probe":
        what = f"{ended.stage.label}, which saw {counted(last.training.images, 'training photo')}"
    else:
        what = f"epoch {ended.epochs} of {ended.stage.max_epochs} of {ended.stage.label}"
    kept = "the mean of epochs" if state.soup is not None and state.soup.is_kept else "the best model so far"
    return f"the time was up after {what}; {kept} is kept"


def _give_up(trial: Trial, state: State) -> None:
    """No epoch was finished: there is nothing to judge.

    Raises:
        Interrupted, TrainingError: always.
    """
    assert state.stopped is not None
    told = state.stopped.sentence()
    if state.stopped.signal:
        raise Interrupted(
            state.stopped.signal, f"{told} before the first epoch ended: no model yet; {how_to_go_on(trial.run)}"
        )
    trial.run.remove_without_checkpoint()
    kind = NotFiniteError if state.is_spoilt else TrainingError
    raise kind(f"{told}\n{_what_now(trial, state)}" if trial.run.can_go_on else told)


def _what_now(trial: Trial, state: State) -> str:
    if not state.is_spoilt:
        return how_to_go_on(trial.run)
    rate = trial.recipe.training.learning_rate / 10
    start = (" from the best model", f"--weights {shlex.quote(str(trial.run.path))} ") if state.best else ("", "")
    return (
        f"going on would come to the same; train anew{start[0]} with another setting, such as: fieldguide train PHOTOS "
        f"{start[1]}--set training.learning_rate={rate:g} -o ANOTHER"
    )


def _seconds_to_try(trial: Trial) -> float | None:
    """What choosing the test size and judging may take: what is left, but for the report."""
    return None if trial.seconds_left is None else max(0.0, trial.seconds_left() - RESERVE)


def _judge(run: RunFolder, split: Split, photos: ToJudge, device: str) -> dict[str, Any]:
    """Judges the bundle that was written on the validation photos, keeps its predictions and fits its temperature."""
    judged = judge_photos(load_predictor(run.path, device), split.part("val"), photos)
    answers = judged.predictions
    write_predictions(run.predictions, answers)
    calibration = calibration_summary(answers.logits, answers.labels, groups=answers.groups)
    write_temperature(
        run.bundle, calibration["temperature"], calibration["fitted_on_n"], calibration["temperature_note"]
    )
    figures = {key: value for key, value in judged.figures().items() if key not in ("per_class", "confused_pairs")}
    return {"validation": figures, "calibration": calibration}
