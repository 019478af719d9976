import contextlib
import dataclasses
import math

import pytest
import torch
from torch import nn

from fieldguide.errors import MachineError, PhotosError, TrainingError, UsageError
from fieldguide.training import loop
from fieldguide.training.checkpoint import Snapshot, best_weights_of, capture, state_of
from fieldguide.training.checkpoint_files import Checkpoints
from fieldguide.training.ends import Cause, Reason, Stopped
from fieldguide.training.loop import Saved, train
from fieldguide.training.observers import Callback, Observers
from fieldguide.training.optimizer import make_optimizer
from fieldguide.training.plan import Pace, Plan
from fieldguide.training.schedule import Constant, Cosine
from fieldguide.training.state import Scores, State
from fieldguide.training.step import OnDevice, StepSettings, train_step
from fieldguide.training.tools import Tools
from tests.training.stages import phase, rounds

PHASES = (phase("standard", 4), phase("strong", 3, trainable="head"))
PLAN = Plan(PHASES, rounds(max_epochs=2), None, "validation_loss")
BY_SIGNAL = Stopped(Cause.SIGNAL, signal="SIGINT")


@dataclasses.dataclass
class Batch:
    images: torch.Tensor
    labels: torch.Tensor
    files: tuple[str, ...]


class Diary(Callback):
    """An observer that keeps what it is told."""

    def __init__(self, model):
        self.model, self.stages, self.steps, self.epochs, self.ended, self.memory = model, [], [], [], [], []
        self.losses, self.done = [], []

    def stage_begins(self, stage, state):
        self.stages.append(stage)

    def stage_resumes(self, stage, state, running):
        self.stages.append(stage)

    def step_done(self, images):
        self.steps.append(images)

    def epoch_done(self, epoch, state):
        self.epochs.append(epoch)

    def stage_done(self, ended):
        self.ended.append(ended)

    def halved(self, halved):
        self.memory.append(halved)

    def losses_known(self, steps):
        self.losses.append(list(steps))

    def training_done(self, state):
        self.done.append(state)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


def tools(losses, *, sizes=(4, 4, 2), asked=None, bad_step=None, rates=None, trainable=None):
    """Batches of random photos, and a validation whose losses are given."""
    remaining = iter(losses)

    def batches(stage, epoch, first_step):
        if asked is not None:
            asked.append((stage.augmentation, epoch))
        draw = torch.Generator().manual_seed(epoch)
        for step, size in enumerate(sizes):
            images = torch.randn(size, 3, 2, 2, generator=draw)
            if bad_step == (epoch, step):
                images[0] = float("nan")
            labels = torch.randint(3, (size,), generator=draw)
            if step >= first_step:
                yield Batch(images, labels, tuple(f"train/{i}.jpg" for i in range(size)))

    def optimizer(model, rate):
        if rates is not None:
            rates.append(rate)
        return make_optimizer(model, rate, kind="sgd", momentum=0.9, weight_decay=0)

    return Tools(
        batches=batches,
        steps_per_epoch=len(sizes),
        evaluate=lambda model: Scores(10, 10 * next(remaining), 5),
        make_optimizer=optimizer,
        make_schedule=lambda *_: Constant(),
        prepare=lambda model, stage: trainable.append(stage.trainable) if trainable is not None else None,
        weights=lambda model: {name: value.clone() for name, value in model.state_dict().items()},
        load=lambda model, weights: model.load_state_dict(weights),
        step=StepSettings(0.0, None, contextlib.nullcontext),
        seed_step=lambda epoch, step: torch.manual_seed(1000 * epoch + step),
    )


def run(losses, plan=PLAN, stop=lambda: None, **options):
    model = network()
    diary = Diary(model)
    state = train(model, plan, tools(losses, **options), Observers([diary]), stop)
    return model, state, diary


def falling(count):
    return [2 - 0.05 * i for i in range(count)]


def test_phases_then_rounds_at_falling_rates_with_their_augmentations():
    asked, rates, parts = [], [], []
    _, state, diary = run(falling(13), asked=asked, rates=rates, trainable=parts)
    assert [stage.name for stage in diary.stages] == ["standard", "strong", "round 1", "round 2", "round 3"]
    assert rates == [0.1, 0.1, 0.05, 0.025, 0.0125] and parts == ["all", "head", "head", "head", "head"]
    assert asked == [("standard", e) for e in (1, 2, 3, 4)] + [("strong", e) for e in range(5, 14)]
    assert len(state.history) == 13 and state.stopped is None and state.best.epoch.epoch == 13


def test_a_phase_ends_once_it_has_converged():
    _, _, diary = run([1.0, 1.0, 1.0, 1.0, *[0.9, 0.8, 0.7], *[0.6, 0.5], *[0.4, 0.3], *[0.2, 0.1]])
    assert diary.ended[0].epochs == 4 and diary.ended[0].reason is Reason.CONVERGED
    assert diary.ended[0].sentence() == "converged (no gain of 0.001 in 3 epochs)"
    assert diary.ended[1].reason is Reason.MAX_EPOCHS


def test_each_stage_starts_from_the_best_model_and_the_last_round_that_did_not_help_is_dropped():
    losses = [1.0, 0.5, 0.8, 0.8, 0.9, 0.9, 0.9, 0.95, 0.95]
    model, state, diary = run(losses)
    assert [ended.improved for ended in diary.ended] == [True, False, False]
    assert state.best.epoch.epoch == 2 and [e.best for e in state.history][:3] == [True, True, False]
    assert all(torch.equal(model.state_dict()[name], state.best.weights[name]) for name in state.best.weights)


def test_a_stage_begins_with_the_best_weights():
    begun = []
    inner = tools([1.0, 0.5, 0.8, 0.8, 0.9, 0.9, 0.9, 0.95, 0.95])

    def optimizer(model, rate):
        begun.append({name: value.clone() for name, value in model.state_dict().items()})
        return inner.make_optimizer(model, rate)

    model = network()
    state = train(
        model, PLAN, dataclasses.replace(inner, make_optimizer=optimizer), Observers([Diary(model)]), lambda: None
    )
    assert len(begun) == 3
    for weights in begun[1:]:
        assert all(torch.equal(weights[name], state.best.weights[name]) for name in weights)


def test_the_limit_on_epochs_holds_over_phases_and_rounds():
    _, state, diary = run(falling(20), plan=dataclasses.replace(PLAN, max_epochs=5))
    assert len(state.history) == 5 and [stage.name for stage in diary.stages] == ["standard", "strong"]
    assert diary.ended[-1].reason is Reason.TRAINING_MAX_EPOCHS


def test_counts_are_summed_and_divided_once():
    model, seen = network(), []
    inner = tools(falling(13))

    class Watch(Diary):
        def epoch_done(self, epoch, state):
            seen.append(epoch.training)

    one = dataclasses.replace(PLAN, max_epochs=1)
    train(model, one, inner, Observers([Watch(model)]), lambda: None)
    again, loss_sum, correct = network(), 0.0, 0
    optimizer = torch.optim.SGD(again.parameters(), lr=0.1, momentum=0.9)
    for batch in tools([1.0]).batches("standard", 1, 0):
        logits = again(batch.images)
        loss = nn.functional.cross_entropy(logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum, correct = (
            loss_sum + float(loss.detach()) * len(batch.labels),
            correct + int((logits.argmax(1) == batch.labels).sum()),
        )
    assert seen[0].images == 10 and seen[0].loss == pytest.approx(loss_sum / 10) and seen[0].accuracy == correct / 10


def test_best_by_accuracy_breaks_ties_by_loss():
    plan = dataclasses.replace(PLAN, best_by="validation_accuracy", max_epochs=4)
    figures = iter([Scores(10, 9.0, 5), Scores(10, 20.0, 7), Scores(10, 19.0, 7), Scores(10, 1.0, 6)])
    model = network()
    made = dataclasses.replace(tools([]), evaluate=lambda model: next(figures))
    assert train(model, plan, made, Observers([Diary(model)]), lambda: None).best.epoch.epoch == 3


def test_best_by_accuracy_takes_the_mean_of_the_classes_where_the_metric_is_macro():
    plan = dataclasses.replace(PLAN, best_by="validation_accuracy", max_epochs=3)
    by_class = [((9, 1), (9, 0)), ((9, 1), (7, 1)), ((9, 1), (8, 0))]
    for metric, best in (("accuracy", 1), ("macro_accuracy", 2)):
        figures = iter([Scores(10, 9.0, sum(right), of, right) for of, right in by_class])
        made = dataclasses.replace(tools([]), evaluate=lambda model, figures=figures: next(figures))
        model = network()
        state = train(model, dataclasses.replace(plan, metric=metric), made, Observers([Diary(model)]), lambda: None)
        assert state.best.epoch.epoch == best, metric


def test_a_loss_that_is_not_finite_stops_names_the_photos_and_keeps_the_best():
    model, state, _ = run(falling(13), bad_step=(2, 1))
    photos = tuple(f"train/{number}.jpg" for number in range(4))
    assert state.stopped == Stopped(Cause.NOT_FINITE, what="loss", epoch=2, step=2, photos=photos)
    assert "not finite in epoch 2, step 2 (photos train/0.jpg, " in state.stopped.sentence()
    assert "and 1 more); try a lower training.learning_rate" in state.stopped.sentence() and len(state.history) == 1
    assert all(torch.equal(model.state_dict()[name], state.best.weights[name]) for name in state.best.weights)


def test_a_validation_loss_that_is_not_finite_stops_too():
    _, state, _ = run([1.0, float("inf")])
    assert state.stopped == Stopped(Cause.NOT_FINITE, what="validation loss", epoch=2) and state.is_spoilt
    assert "the validation loss is not finite in epoch 2;" in state.stopped.sentence() and state.best.epoch.epoch == 1


def test_a_stop_ends_after_the_step_and_drops_the_unfinished_epoch():
    asked = iter([None] * 4 + [BY_SIGNAL] * 99)
    _, state, diary = run(falling(13), stop=lambda: next(asked))
    assert state.stopped == BY_SIGNAL and len(state.history) == 1 and len(diary.steps) == 5
    assert diary.ended[-1].reason is Reason.STOPPED
    assert state.best.epoch.epoch == 1


def test_the_same_training_twice_gives_the_same_weights_to_the_bit():
    first, _, _ = run(falling(13))
    second, _, _ = run(falling(13))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_mistake_in_the_program_is_not_taken_for_a_training_error():
    with pytest.raises(StopIteration):
        run([])
    assert issubclass(TrainingError, ValueError)


def test_where_a_photo_goes_away_the_steps_before_it_are_saved_with_their_figures(monkeypatch):
    """Also those that the host has not looked at yet, as on a GPU."""
    monkeypatch.setattr(OnDevice, "is_full", property(lambda self: False))
    inner, saved = tools(falling(13)), []

    def batches(stage, epoch, first_step):
        for step, batch in enumerate(inner.batches(stage, epoch, first_step)):
            if step == 2:
                raise PhotosError("train/7.jpg is gone")
            yield batch

    class Keeper(Callback):
        def save(self, model, state, under_way):
            saved.append((under_way.running.steps, under_way.running.images, under_way.running.loss_sum > 0))

    model = network()
    made = dataclasses.replace(inner, batches=batches)
    state = train(model, PLAN, made, Observers([Diary(model), Keeper()]), lambda: None)
    assert state.stopped == Stopped(Cause.PHOTOS, message="train/7.jpg is gone") and not state.is_spoilt
    assert saved == [(2, 8, True)]


def test_a_saved_step_of_another_training_is_refused_and_no_training_ends_with_it():
    model = network()
    with pytest.raises(UsageError, match="does not fit this training"):
        train(
            model,
            PLAN,
            tools([]),
            Observers([Diary(model)]),
            lambda: None,
            saved=Saved(State(), Snapshot({}, {"under_way": {}})),
        )


def probing(*answers, seen=None):
    """Tools whose probe goes through three batches of four photos, in each view."""

    def probe(model, stage, epoch, goes):
        batches = 3 * (stage.views or 1)
        for done in range(1, batches + 1):
            answer = goes(4, done < batches)
            if seen is not None:
                seen.append(answer)
            if answer == "stop":
                return None
            if answer == "enough":
                break
        return Scores(12, 6.0, 9)

    return dataclasses.replace(tools(falling(9)), probe=probe)


PROBE_FIRST = dataclasses.replace(
    PLAN,
    phases=(PHASES[1].model_copy(update={"name": "probe", "max_epochs": 1, "method": "probe"}), PHASES[0]),
    rounds=rounds(max_rounds=0),
)


def test_a_probe_is_an_epoch_without_steps_and_what_follows_begins_from_it():
    model = network()
    diary = Diary(model)
    state = train(model, PROBE_FIRST, probing(), Observers([diary]), lambda: None)
    first = state.history[0]
    assert (first.stage, first.learning_rate, first.training) == ("probe", 0.0, Scores(12, 6.0, 9)) and first.best
    assert [stage.name for stage in diary.stages] == ["probe", "standard"] and diary.ended[0].reason is Reason.SOLVED


def test_a_probe_that_is_stopped_leaves_no_epoch():
    model, asked = network(), iter([None, BY_SIGNAL])
    state = train(model, PROBE_FIRST, probing(), Observers([Diary(model)]), lambda: next(asked))
    assert not state.history and state.stopped == BY_SIGNAL and state.best is None


def test_a_probe_whose_time_is_up_solves_with_what_it_has_and_ends_the_training():
    model, seen = network(), []
    plan = dataclasses.replace(PROBE_FIRST, max_seconds=0.0)
    state = train(model, plan, probing(seen=seen), Observers([Diary(model)]), lambda: None)
    assert seen == ["enough"] and len(state.history) == 1 and state.out_of_time and not state.stopped
    assert state.ended[-1].reason is Reason.OUT_OF_TIME


def test_a_probe_that_saw_all_photos_was_not_cut_though_its_time_is_up_by_then(monkeypatch):
    model, seen, clock = network(), [], Clock(monkeypatch)
    plan = dataclasses.replace(PROBE_FIRST, phases=PROBE_FIRST.phases[:1], max_seconds=2.5)
    made, diary = probing(seen=seen), Diary(model)
    monkeypatch.setattr(diary, "step_done", lambda photos: setattr(clock, "now", clock.now + 1))
    state = train(model, plan, made, Observers([diary]), lambda: None)
    assert seen == ["on"] * 3 and state.ended[-1].reason is Reason.SOLVED and not state.out_of_time


@pytest.mark.parametrize(
    ("seconds", "fitting", "solving", "batches"),
    [
        (9.5, 0.0, 0.0, 9),  # 3 s a view
        (8.5, 0.0, 0.0, 6),
        (5.5, 0.0, 0.0, 3),
        (9.5, 0.0, 0.5, 6),
        (12.5, 0.0, 0.5, 9),
        (2.5, 0.0, 0.0, 3),
        (2.5, 0.0, 1.2, 2),  # a part of a view takes its part of the fit
        (2.5, 0.0, 5.0, 1),
        (2.5, 1.0, 0.0, 2),
        (9.5, 1.0, 0.0, 6),
    ],
)
def test_a_probe_begins_a_view_only_where_it_fits_and_does_the_same_again(
    monkeypatch, seconds, fitting, solving, batches
):
    views = PROBE_FIRST.phases[0].model_copy(update={"views": 3})
    pace = Pace(3.0, 1.0, 30, solving_seconds=solving, further_seconds=solving, fitting_seconds=fitting)
    plan = dataclasses.replace(PROBE_FIRST, phases=(views,), max_seconds=seconds, pace=pace)
    model, seen, clock = network(), [], Clock(monkeypatch)
    diary = Diary(model)
    monkeypatch.setattr(diary, "step_done", lambda photos: setattr(clock, "now", clock.now + 1))
    state = train(model, plan, probing(seen=seen), Observers([diary]), lambda: None)
    assert len(seen) == batches
    [ended] = state.ended
    if seconds > 3:
        assert ended.reason is Reason.SOLVED and not state.out_of_time
    again, seen_again = dataclasses.replace(plan, phases=(ended.stage,), max_seconds=None, pace=None), []
    train(network(), again, probing(seen=seen_again), Observers([Diary(model)]), lambda: None)
    assert seen_again == seen


@pytest.mark.parametrize(
    ("view", "validation", "batches"), [(3.0, 2.0, 9), (1.5, 2.0, 6), (1.0, 2.0, 3), (1.0, 4.0, 2), (1.0, 0.0, 9)]
)
def test_on_a_slower_machine_a_probe_keeps_more_time_for_its_validation(monkeypatch, view, validation, batches):
    views = PROBE_FIRST.phases[0].model_copy(update={"views": 3})
    pace = Pace(3.0, 1.0, 30, view_seconds=view, validation_seconds=validation)
    plan = dataclasses.replace(PROBE_FIRST, phases=(views,), max_seconds=9.0, pace=pace)
    model, seen, clock = network(), [], Clock(monkeypatch)
    diary = Diary(model)
    monkeypatch.setattr(diary, "step_done", lambda photos: setattr(clock, "now", clock.now + 1))
    train(model, plan, probing(seen=seen), Observers([diary]), lambda: None)
    assert len(seen) == batches  # of 1 s, three a view


def test_an_epoch_whose_time_is_up_ends_after_its_step_and_is_judged():
    plan = dataclasses.replace(PLAN, max_seconds=0.0)
    _, state, diary = run(falling(13), plan=plan)
    assert diary.steps == [4] and len(state.history) == 1 and state.out_of_time and state.best is not None
    assert state.history[0].training.images == 4 and diary.ended[-1].reason is Reason.OUT_OF_TIME


@pytest.mark.parametrize("plan", [PLAN, PROBE_FIRST])
def test_a_photo_that_goes_away_in_the_validation_of_an_epoch_that_the_time_cut_leaves_the_epoch_to_go_on_with(plan):
    model, saved = network(), []

    class Keeper(Callback):
        def save(self, model, state, under_way):
            saved.append(capture(model, state, under_way))

    def evaluate(model):
        raise PhotosError("val/a.jpg is gone")

    made = dataclasses.replace(probing(), evaluate=evaluate)
    cut = dataclasses.replace(plan, max_seconds=0.0)
    state = train(model, cut, made, Observers([Diary(model), Keeper()]), lambda: None)
    assert state.stopped.message == "val/a.jpg is gone" and not state.history
    (snapshot,) = saved
    again, diary = network(), Diary(model)
    on = Saved(state_of(snapshot.plain["state"], plan, None), snapshot)
    more = dataclasses.replace(tools(falling(13)), probe=probing().probe)
    state = train(again, plan, more, Observers([diary]), lambda: None, saved=on)
    assert not state.stopped and len(state.history) > 1 and state.best is not None


class Clock:
    """A clock that a step moves on by a second, and validation by ten."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("fieldguide.training.loop.time.perf_counter", lambda: self.now)

    def tools(self, made):
        def evaluate(model):
            self.now += 10
            return made.evaluate(model)

        def seed_step(epoch, step):
            self.now += 1
            made.seed_step(epoch, step)

        return dataclasses.replace(made, evaluate=evaluate, seed_step=seed_step)


@pytest.mark.parametrize(
    ("seconds", "epochs", "steps", "reason"),
    [
        (1.5, 1, 2, Reason.OUT_OF_TIME),  # in the first epoch, which is judged as it is
        (12.5, 1, 3, Reason.OUT_OF_TIME),  # in its validation: no further epoch begins
        (14.5, 2, 5, Reason.OUT_OF_TIME),
        (80.5, 7, 21, Reason.MAX_EPOCHS),  # after its last step but one: nothing was cut
    ],
)
def test_time_ends_a_training_between_steps_and_before_what_would_follow(monkeypatch, seconds, epochs, steps, reason):
    plan, model = dataclasses.replace(PLAN, max_seconds=seconds, rounds=rounds(max_rounds=0)), network()
    diary, clock = Diary(model), Clock(monkeypatch)
    state = train(model, plan, clock.tools(tools(falling(13))), Observers([diary]), lambda: None)
    assert (len(state.history), len(diary.steps), diary.ended[-1].reason) == (epochs, steps, reason)
    assert state.out_of_time == (reason is Reason.OUT_OF_TIME)


def test_what_other_processes_spent_counts_too(monkeypatch):
    model = network()
    done = train(
        model, dataclasses.replace(PLAN, max_epochs=2), tools(falling(13)), Observers([Diary(model)]), lambda: None
    )
    done.history = [dataclasses.replace(epoch, seconds=20.0) for epoch in done.history]
    clock, plan = Clock(monkeypatch), dataclasses.replace(PLAN, max_seconds=30.0)
    state = train(
        model, plan, clock.tools(tools(falling(13))), Observers([Diary(model)]), lambda: None, saved=Saved(done)
    )
    assert state.out_of_time and len(state.history) == 2


def test_where_time_ends_a_training_the_soup_is_made_of_what_there_is(monkeypatch):
    plan = dataclasses.replace(PLAN, max_seconds=14.5, soup_candidates=3)
    model, clock = network(), Clock(monkeypatch)
    state = train(model, plan, clock.tools(tools(falling(13))), Observers([Diary(model)]), lambda: None)
    assert state.out_of_time and len(state.history) == 2
    assert state.candidates == [] and state.soup.candidates == (2, 1) and clock.now == 14 + 1 + 10 + 2 * 10


def test_a_training_that_is_stopped_after_its_time_was_up_makes_no_soup(monkeypatch):
    plan = dataclasses.replace(PLAN, max_seconds=14.5, soup_candidates=3)
    model, clock = network(), Clock(monkeypatch)
    state = train(
        model,
        plan,
        clock.tools(tools(falling(13))),
        Observers([Diary(model)]),
        lambda: BY_SIGNAL if clock.now > 15 else None,
    )
    assert state.out_of_time and state.stopped == BY_SIGNAL and state.soup is None
    assert [one.epoch.epoch for one in state.candidates] == [2, 1]  # for when it goes on


def test_time_that_is_not_up_changes_nothing():
    _, state, _ = run(falling(13), plan=dataclasses.replace(PLAN, max_seconds=3_600.0))
    _, plain, _ = run(falling(13))
    assert not state.out_of_time
    assert [epoch.training for epoch in state.history] == [epoch.training for epoch in plain.history]


def test_the_loss_and_rate_of_each_step_are_told_in_bulk_and_sum_to_the_epochs(monkeypatch):
    _, state, diary = run(falling(13))
    assert [len(steps) for steps in diary.losses] == [1] * len(diary.steps)  # a CPU waits for nothing
    monkeypatch.setattr(OnDevice, "is_full", property(lambda self: len(self._steps) >= 2))  # as a GPU, but sooner
    _, _, bulk = run(falling(13))
    assert [len(steps) for steps in bulk.losses][:2] == [2, 1]
    told = [step for steps in bulk.losses for step in steps]
    assert told == [step for steps in diary.losses for step in steps]
    assert [(step.epoch, step.step, step.images) for step in told[:4]] == [(1, 1, 4), (1, 2, 4), (1, 3, 2), (2, 1, 4)]
    for epoch in state.history:
        own = [step for step in told if step.epoch == epoch.epoch]
        assert {step.learning_rate for step in own} == {epoch.learning_rate}
        assert math.fsum(step.loss * step.images for step in own) == pytest.approx(epoch.training.loss_sum)
        assert sum(step.correct for step in own) == epoch.training.correct


def test_observers_are_told_once_that_the_training_is_done_whatever_ended_it():
    for stop in (lambda: None, lambda: BY_SIGNAL):
        _, state, diary = run(falling(13), stop=stop)
        assert diary.done == [state]


EVENTS = ("stage_begins", "step_done", "losses_known", "epoch_done", "stage_done", "is_due", "save", "training_done")


@pytest.mark.parametrize("event", EVENTS)
def test_a_callback_that_fails_stops_after_its_step_with_all_saved_and_the_others_as_they_were(event, tmp_path):
    def fail(*_):
        called.append(event)
        raise KeyError("mine")

    called, bad = [], Callback()
    setattr(bad, event, fail)
    model, diary, checkpoints = network(), Diary(None), Checkpoints(tmp_path, 1e9)
    observers = Observers([diary, checkpoints], [bad])
    state = train(model, PLAN, tools(falling(13)), observers, lambda: None)
    assert called == [event] and isinstance(observers.error, KeyError)
    told = "callback Callback failed (KeyError: 'mine')"
    assert observers.stopped == Stopped(Cause.CALLBACK, message=told) and observers.stopped.sentence() == told
    if event == "training_done":
        assert state.stopped is None and len(state.history) == 13
        return
    assert state.stopped == observers.stopped and len(diary.steps) < (14 if event == "stage_done" else 5)
    found = checkpoints.newest(again := network())
    assert found.snapshot.plain["under_way"]["running"]["images"] == sum(diary.steps) - 10 * len(state.history)
    saved = Saved(state_of(found.snapshot.plain["state"], PLAN, best_weights_of(found.snapshot)), found.snapshot)
    rest = tools(falling(13)[len(state.history) :])
    resumed = train(again, PLAN, rest, Observers([Diary(again)]), lambda: None, saved)
    whole, plain, _ = run(falling(13))
    assert [epoch.training for epoch in resumed.history] == [epoch.training for epoch in plain.history]
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), whole.parameters(), strict=True))


def test_a_part_of_the_program_that_fails_is_an_error_of_the_training():
    class Full(Callback):
        def epoch_done(self, epoch, state):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        train(network(), PLAN, tools(falling(13)), Observers([Full()]), lambda: None)


def test_each_callback_is_told_that_the_run_failed_also_after_one_of_them_did():
    told = []

    class Bad(Callback):
        def run_failed(self, error):
            told.append("bad")
            raise KeyError("mine")

    class Good(Callback):
        def run_failed(self, error):
            told.append(error)

    error, observers = ValueError("the disk"), Observers([], [Bad(), Good()])
    observers.tell(lambda each: 1 / 0)
    observers.run_failed(error)
    assert told == ["bad", error] and error.__notes__ == ["callback Bad failed too (KeyError: 'mine')"]


PACE = Pace(probe_seconds=1.0, epoch_seconds=13.0, most_epochs=30)
TIMED = Plan((phase("standard", 10, patience_epochs=10),), rounds(max_rounds=0), None, "validation_loss", pace=PACE)


class ChangingClock(Clock):
    """After some epochs, steps and validations take `times` as long."""

    def __init__(self, monkeypatch, after, times):
        super().__init__(monkeypatch)
        self.after, self.times, self.rates, self.validations = after, times, [], 0

    def _goes_on(self, seconds):
        self.now += seconds * (self.times if self.validations >= self.after else 1)

    def tools(self, made):
        def evaluate(model):
            self._goes_on(10)
            self.validations += 1
            return made.evaluate(model)

        def seed_step(epoch, step):
            self._goes_on(1)
            made.seed_step(epoch, step)

        def schedule(optimizer, stage, steps_per_epoch):
            return Cosine(optimizer, stage, steps_per_epoch, 0)

        return dataclasses.replace(made, evaluate=evaluate, seed_step=seed_step, make_schedule=schedule)


class Told(Diary):
    def __init__(self, model):
        super().__init__(model)
        self.plans, self.rates = [], []

    def planned_again(self, stage):
        self.plans.append(stage.replanned[-1])

    def losses_known(self, steps):
        self.rates += [step.learning_rate for step in steps]


def timed(monkeypatch, clock, seconds, plan=TIMED, losses=None):
    model = network()
    diary = Told(model)
    plan = dataclasses.replace(plan, max_seconds=seconds)
    state = train(model, plan, clock.tools(tools(losses or falling(40))), Observers([diary]), stop=lambda: None)
    return state, diary, model


def test_a_machine_that_gets_slower_by_half_changes_the_plan_and_not_the_end(monkeypatch):
    clock = ChangingClock(monkeypatch, after=4, times=2)
    state, diary, _ = timed(monkeypatch, clock, 131.0)
    assert diary.plans == [(5, 7)]  # 4 epochs of 13 s and one of 26; two more of 26 s fit in 131 s
    assert len(state.history) == 7 and not state.out_of_time and 130 - 13 <= clock.now <= 131
    assert diary.ended[0].reason is Reason.MAX_EPOCHS
    assert diary.rates == sorted(diary.rates, reverse=True) and diary.rates[-1] < 0.02 * diary.rates[0]  # to the end
    drops = [before - after for before, after in zip(diary.rates, diary.rates[1:], strict=False)]
    assert max(drops) < 0.2 * diary.rates[0]  # and it does not jump


def test_a_machine_that_gets_quicker_uses_the_time(monkeypatch):
    clock = ChangingClock(monkeypatch, after=4, times=0.5)
    state, diary, _ = timed(monkeypatch, clock, 131.0)
    assert len(state.history) == 16 and clock.now == pytest.approx(4 * 13 + 12 * 6.5 - 0.5)  # one batch of the last
    assert not state.out_of_time and diary.rates == sorted(diary.rates, reverse=True)


def test_a_machine_as_planned_keeps_the_plan(monkeypatch):
    state, diary, _ = timed(monkeypatch, ChangingClock(monkeypatch, 99, 1), 131.0)
    assert diary.plans == [] and len(state.history) == 10


def test_a_person_s_own_epochs_are_not_planned_again(monkeypatch):
    plan = dataclasses.replace(TIMED, pace=None)
    state, diary, _ = timed(monkeypatch, ChangingClock(monkeypatch, 4, 0.5), 131.0, plan)
    assert diary.plans == [] and len(state.history) == 10


@pytest.mark.parametrize(("after", "times", "seconds"), [(4, 2, 131.0), (4, 0.5, 131.0), (0, 1, 30.5)])
def test_what_was_done_gives_the_same_numbers_again(monkeypatch, after, times, seconds):
    """Also where time cut an epoch."""
    state, first, model = timed(monkeypatch, ChangingClock(monkeypatch, after, times), seconds)
    stage = state.ended[0].stage
    assert stage.replanned
    again = dataclasses.replace(TIMED, phases=(stage,), pace=None)
    repeated, diary, other = timed(monkeypatch, ChangingClock(monkeypatch, 99, 1), 1e9, again)
    assert [epoch.training for epoch in repeated.history] == [epoch.training for epoch in state.history]
    assert diary.rates == first.rates and not repeated.out_of_time
    assert all(torch.equal(model.state_dict()[name], value) for name, value in other.state_dict().items())


def test_what_was_planned_again_goes_on_in_another_process(monkeypatch, tmp_path):
    clock, model = ChangingClock(monkeypatch, after=4, times=2), network()
    plan, checkpoints = dataclasses.replace(TIMED, max_seconds=131.0), Checkpoints(tmp_path, 1e9)
    told = Told(model)
    train(
        model,
        plan,
        clock.tools(tools(falling(40))),
        Observers([told, checkpoints]),
        lambda: BY_SIGNAL if len(told.rates) == 17 else None,
    )  # in the sixth epoch
    on = network()
    found = checkpoints.newest(on)
    state = state_of(found.snapshot.plain["state"], plan, best_weights_of(found.snapshot))
    more, diary = ChangingClock(monkeypatch, 99, 1).tools(tools(falling(40)[5:])), Told(on)
    state = train(
        on,
        dataclasses.replace(TIMED, pace=None),
        more,
        Observers([diary]),
        lambda: None,
        saved=Saved(state, found.snapshot),
    )
    _, first, whole_model = timed(monkeypatch, ChangingClock(monkeypatch, after=4, times=2), 131.0)
    assert told.rates + diary.rates == first.rates and state.ended[0].stage.replanned == ((5, 7),)
    assert all(torch.equal(whole_model.state_dict()[name], value) for name, value in on.state_dict().items())


@pytest.mark.parametrize(
    ("seconds", "epochs", "batches"),
    [(34.0, 0, 0), (37.0, 0, 0), (42.0, 1, 2), (60.0, 2, 6), (100.0, 5, 15)],
)
@pytest.mark.parametrize("is_spare", [False, True])
def test_after_a_slow_probe_fewer_epochs_are_planned_and_below_half_a_one_none(
    monkeypatch, seconds, epochs, batches, is_spare
):
    clock = ChangingClock(monkeypatch, 0, 1)
    pace = Pace(probe_seconds=12.5, epoch_seconds=10.0, most_epochs=30, validation_seconds=5.0, is_spare=is_spare)
    plan = dataclasses.replace(TIMED, phases=(PROBE_FIRST.phases[0], *TIMED.phases), pace=pace, max_seconds=seconds)

    def probe(model, stage, epoch, goes):
        clock.now += 15
        assert goes(10, False) == "on"
        return Scores(10, 10.0, 5)

    model = network()
    made = dataclasses.replace(clock.tools(tools(falling(40))), probe=probe)
    state = train(model, plan, made, Observers([diary := Told(model)]), lambda: None)
    # a probe of 25 s where 12.5 were planned: an epoch of 10 s should take 20, but takes 13
    assert len(diary.rates) == batches and len(state.history) == 1 + epochs
    assert state.out_of_time == (epochs == 0 and not is_spare) and clock.now <= seconds


def test_a_stage_that_time_cut_knows_what_was_planned_last():
    stage = phase("gentle", 2)
    assert stage.epochs_before_a_cut == 2 == stage.again(1.5, 1.5).epochs_before_a_cut
    assert stage.again(1, 3).again(2.8, 2.8).epochs_before_a_cut == 3


@pytest.mark.parametrize("error_at", ["prepare", "step"])
def test_a_process_that_is_gone_in_a_step_or_between_two_stages_costs_nothing(tmp_path, monkeypatch, error_at):
    """What is gone on with ends as what was never interrupted."""
    losses, model = falling(7), network()
    plan = Plan(PHASES, rounds(max_rounds=0), None, "validation_loss")
    whole = train(network(), plan, tools(losses), Observers([]), lambda: None)
    made, checkpoints = tools(losses), Checkpoints(tmp_path, 1e9)

    def gone(model, stage):
        if stage.name == "strong":
            raise MachineError("another process of this training ended")

    def step(*given):
        if len(told.epochs) == 1 and len(told.steps) == 5:
            raise MachineError("another process of this training ended")
        return train_step(*given)

    told = Diary(model)
    if error_at == "prepare":
        made = dataclasses.replace(made, prepare=gone)
    else:
        monkeypatch.setattr(loop, "train_step", step)
        monkeypatch.setattr(OnDevice, "is_full", False)  # as on a GPU
    state = train(model, plan, made, Observers([told, checkpoints]), lambda: None)
    assert state.stopped == Stopped(Cause.ERROR, message="another process of this training ended")
    monkeypatch.undo()
    on = network()
    found = checkpoints.newest(on)
    state = state_of(found.snapshot.plain["state"], plan, best_weights_of(found.snapshot))
    rest = tools(falling(7)[len(state.history) :])
    state = train(on, plan, rest, Observers([]), lambda: None, saved=Saved(state, found.snapshot))
    assert [(e.training, e.stage_number, e.validation) for e in state.history] == [
        (e.training, e.stage_number, e.validation) for e in whole.history
    ]
    assert [(e.stage.name, e.epochs) for e in state.ended] == [("standard", 4), ("strong", 3)]
    assert all(torch.equal(whole.best.weights[name], value) for name, value in on.state_dict().items())
