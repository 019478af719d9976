"""A greedy soup is what a person makes by hand, is never worse than the best epoch, and survives an interruption."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from fieldguide.errors import UsageError
from fieldguide.training.checkpoint import best_weights_of, candidates_of, capture, plain_state, state_of
from fieldguide.training.checkpoint_files import Checkpoints
from fieldguide.training.loop import Saved, train
from fieldguide.training.observers import Observers
from fieldguide.training.plan import More
from fieldguide.training.soup import can_make_soup, greedy_soup, keep, make_soup, take_candidate
from fieldguide.training.state import Best, Epoch, Scores, State, is_better
from tests.training.test_checkpoint import LOSSES, made, outcome, stopping_after, under_way
from tests.training.test_loop import BY_SIGNAL, PHASES, PLAN, Clock, Diary, network, run

NOISY = tuple(stage.model_copy(update={"learning_rate": 0.3}) for stage in PHASES)  # so that a mean may be better
SOUP = dataclasses.replace(PLAN, phases=NOISY, soup_candidates=3)


def by_loss(new, old):
    return is_better(new, old, PLAN)


def by_accuracy(new, old):
    return is_better(new, old, dataclasses.replace(PLAN, best_by="validation_accuracy"))


def epoch(number, scores, *, best=False):
    return Epoch(number, 1, "phase", "standard", 0.1, scores, scores, 1.0, 1.0, best)


def candidate(number, value):
    """A model of one weight and a counter, whose loss is the weight's distance from 0."""
    weights = {"weight": torch.tensor([value]), "counter": torch.tensor(number)}
    return Best(epoch(number, distance(weights)), weights)


def distance(weights):
    return Scores(1, abs(float(weights["weight"])), 0)


def test_each_candidate_joins_the_mean_only_if_validation_gets_no_worse():
    candidates = [candidate(4, 1.0), candidate(7, -2.0), candidate(2, 3.0), candidate(5, -3.5)]
    # mean of 1 and -2: 0.5 off, joins; with 3: 2/3 off, does not; with -3.5: 1.5 off, does not
    soup, weights = greedy_soup(candidates, distance, by_loss)
    assert soup.candidates == (4, 7, 2, 5) and soup.epochs == (4, 7) and soup.is_kept
    assert (soup.before.loss, soup.after.loss) == (1.0, 0.5)
    assert float(weights["weight"]) == -0.5 and int(weights["counter"]) == 4  # a counter is no mean


def test_the_mean_of_many_is_their_mean():
    draw = torch.Generator().manual_seed(0)
    several = [candidate(number, 0.0) for number in range(1, 8)]
    for one in several:
        one.weights["weight"] = torch.randn(50, generator=draw)
    soup, weights = greedy_soup(several, lambda weights: Scores(1, 1.0, 0), by_loss)
    assert soup.epochs == tuple(range(1, 8)) and not soup.is_kept  # as good is not better
    torch.testing.assert_close(weights["weight"], torch.stack([one.weights["weight"] for one in several]).mean(0))


def test_a_mean_whose_figures_are_not_finite_is_none():
    soup, weights = greedy_soup(
        [candidate(1, 1.0), candidate(2, -1.0)], lambda w: Scores(1, float(w["weight"]) or float("nan"), 0), by_loss
    )
    assert soup.epochs == (1,) and float(weights["weight"]) == 1.0


def test_one_candidate_is_no_soup():
    soup, weights = greedy_soup([candidate(1, 1.0)], distance, by_loss)
    assert soup.epochs == (1,) and not soup.is_kept and float(weights["weight"]) == 1.0


@pytest.mark.parametrize("at", [1, 2, 3])
def test_told_to_stop_it_makes_none(at):
    asked = []

    def evaluate(weights):
        asked.append(weights)
        return distance(weights) if len(asked) < at else None

    assert greedy_soup([candidate(1, 1.0), candidate(2, -1.0), candidate(3, 2.0)], evaluate, by_loss) is None


@pytest.mark.parametrize("is_better", [by_loss, by_accuracy])
@pytest.mark.parametrize("seed", range(20))
def test_of_classifiers_it_is_never_worse_than_the_best(seed, is_better):
    draw = torch.Generator().manual_seed(seed)
    images, labels = torch.randn(40, 6, generator=draw), torch.randint(3, (40,), generator=draw)

    def evaluate(weights):
        logits = images @ weights["weight"]
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        return Scores(40, float(loss), int((logits.argmax(1) == labels).sum()))

    state = State()
    for number in range(1, 9):
        weights = {"weight": torch.randn(6, 3, generator=draw)}
        scores = evaluate(weights)
        best = state.best is None or is_better(scores, state.best.epoch.validation)
        take_candidate(state, epoch(number, scores, best=best), lambda made=weights: made, 5, is_better)
    assert state.candidates[0] is state.best and len(state.candidates) == 5
    soup, weights = greedy_soup(state.candidates, evaluate, is_better)
    assert soup.before == state.best.epoch.validation and soup.after == evaluate(weights)
    assert not is_better(soup.before, soup.after) and soup.is_kept == is_better(soup.after, soup.before)


def test_the_best_epochs_are_candidates_the_best_first_and_of_equals_the_earlier():
    state = State()
    for number, loss in enumerate([3.0, 1.0, 2.0, 1.0, 5.0, 0.5], start=1):
        best = state.best is None or loss < state.best.epoch.validation.loss
        scores = Scores(1, loss, 0)
        take_candidate(state, epoch(number, scores, best=best), lambda: {"w": torch.zeros(1)}, 3, by_loss)
    assert [one.epoch.epoch for one in state.candidates] == [6, 2, 4] and state.best is state.candidates[0]


def test_weights_are_copied_only_for_a_candidate():
    state = State()
    take_candidate(state, epoch(1, Scores(1, 1.0, 0), best=True), dict, 1, by_loss)
    take_candidate(state, epoch(2, Scores(1, 2.0, 0)), lambda: pytest.fail("was copied"), 1, by_loss)
    assert [one.epoch.epoch for one in state.candidates] == [1]


def test_beside_a_probe_the_candidates_are_the_best_epoch_and_the_first():
    plan, state = dataclasses.replace(PLAN, averages_with_probe=True), State()
    seen = []
    for number, loss in enumerate([3.0, 4.0, 2.0, 1.0, 5.0], start=1):
        best = state.best is None or loss < state.best.epoch.validation.loss
        keep(state, epoch(number, Scores(1, loss, 0), best=best), lambda: {"w": torch.zeros(1)}, plan, by_loss)
        seen.append([one.epoch.epoch for one in state.candidates])
    assert seen == [[1], [1, 2], [3, 1], [4, 1], [4, 1]] and state.best is state.candidates[0]
    assert can_make_soup(state, plan) and not can_make_soup(dataclasses.replace(state, stopped=BY_SIGNAL), plan)
    assert not can_make_soup(dataclasses.replace(state, candidates=state.candidates[1:]), plan)
    state.candidates = []  # trained longer, after a soup: there is no probe to average with
    for number, loss in ((6, 0.9), (7, 0.8)):
        keep(state, epoch(number, Scores(1, loss, 0), best=True), lambda: {"w": torch.zeros(1)}, plan, by_loss)
    assert state.candidates == [] and state.best.epoch.epoch == 7 and not can_make_soup(state, plan)


def test_the_mean_is_tried_also_where_no_epoch_is_better_than_its_probe():
    plan, state = dataclasses.replace(PLAN, averages_with_probe=True), State()
    for number, (loss, weight) in enumerate([(1.0, 0.0), (3.0, 9.0), (2.0, 4.0), (2.5, 5.0)], start=1):
        given = {"weight": torch.tensor([weight])}
        keep(state, epoch(number, Scores(1, loss, 0), best=number == 1), given.copy, plan, by_loss)
    assert [one.epoch.epoch for one in state.candidates] == [1, 3] and state.best is state.candidates[0]
    make_soup(state, lambda weights: Scores(1, abs(float(weights["weight"]) - 2.0), 0), by_loss)
    assert state.soup.is_kept and state.best.soup == (1, 3) and float(state.best.weights["weight"]) == 2.0


def judged_by_weights(kind="sgd", schedule="constant"):
    """Tools whose validation is by the weights alone, so that a mean is as good as it is: 30 photos, real figures."""
    inner = made(kind, schedule)
    draw = torch.Generator().manual_seed(99)
    images, labels = torch.randn(30, 3, 2, 2, generator=draw), torch.randint(3, (30,), generator=draw)

    def evaluate(model):
        model.eval()
        with torch.no_grad():
            logits = model(images)
            loss = float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        return Scores(30, loss, int((logits.argmax(1) == labels).sum()))

    return dataclasses.replace(inner, evaluate=evaluate)


def judged_by_epoch(of_means):
    """Tools whose validation gives each epoch a loss of its own, and the models of a soup those that are given."""
    inner, fresh, of_means = made("sgd", "constant"), [], iter(of_means)

    def batches(augmentation, epoch, first_step):
        fresh.append(epoch)
        return inner.batches(augmentation, epoch, first_step)

    def evaluate(model):
        return Scores(10, 10 * (LOSSES[fresh.pop() - 1] if fresh else next(of_means)), 5)

    return dataclasses.replace(inner, batches=batches, evaluate=evaluate)


def whole_outcome(model, state):
    best = state.best
    return *outcome(model, state), state.soup, best.soup, best.epoch.validation, state.candidates


@pytest.mark.parametrize("best_by", ["validation_loss", "validation_accuracy"])
@pytest.mark.parametrize("with_probe", [False, True])
def test_at_the_end_the_model_is_the_soup_where_that_is_better(best_by, with_probe):
    asked = {"soup_candidates": 0, "averages_with_probe": True} if with_probe else {}
    plan, tools, kept = dataclasses.replace(SOUP, best_by=best_by, **asked), judged_by_weights(), {}

    class Watch(Diary):
        def epoch_done(self, epoch, state):
            kept[epoch.epoch] = {name: value.clone() for name, value in self.model.state_dict().items()}

    model = network()
    state = train(model, plan, tools, Observers([Watch(model)]), lambda: None)
    soup = state.soup
    better = {"validation_loss": by_loss, "validation_accuracy": by_accuracy}[best_by]
    assert len(soup.candidates) == 3 - with_probe and (not with_probe or soup.candidates[1] == 1)
    assert soup.candidates[0] == state.best.epoch.epoch and state.candidates == []
    assert not better(soup.before, soup.after) and soup.is_kept == better(soup.after, soup.before)
    assert tools.evaluate(model) == (soup.after if soup.is_kept else soup.before)
    ingredients = [kept[number] for number in (soup.epochs if soup.is_kept else soup.epochs[:1])]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, torch.stack([weights[name] for weights in ingredients]).mean(0))
    assert state.best.soup == (soup.epochs if soup.is_kept else ())


def test_without_it_the_training_is_what_it_was():
    losses = [2 - 0.05 * i for i in range(13)]
    model, state, _ = run(losses)
    assert state.soup is None and state.candidates == [] and state.best.soup == ()
    assert not {"candidates", "soup", "best_soup"} & set(plain_state(state))
    again, with_soup, _ = run(
        [*losses, 9.0, 9.9, 9.9], plan=dataclasses.replace(PLAN, soup_candidates=3)
    )  # no mean is better
    assert outcome(again, with_soup) == outcome(model, state) and not with_soup.soup.is_kept


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "schedule"), [("sgd", "plateau"), ("adamw", "cosine")])
@pytest.mark.parametrize(("ema_decay", "with_probe"), [(None, False), (0.8, False), (None, True)])
def test_stopped_after_any_step_it_ends_as_if_it_had_not_been(tmp_path, kind, schedule, ema_decay, with_probe):
    asked = {"soup_candidates": 0, "averages_with_probe": True} if with_probe else {}
    plan, whole = dataclasses.replace(SOUP, ema_decay=ema_decay, **asked), network()
    expected = whole_outcome(
        whole, train(whole, plan, judged_by_weights(kind, schedule), Observers([Diary(whole)]), lambda: None)
    )
    steps_in_all = 3 * len(expected[0])
    in_soup = range(steps_in_all + 1, steps_in_all + (3 if with_probe else 4))
    for steps in (*range(1, steps_in_all, 4), *in_soup):
        checkpoints, model = Checkpoints(tmp_path / str(steps), 1e9), network()
        stopped = train(
            model,
            plan,
            judged_by_weights(kind, schedule),
            Observers([Diary(model), checkpoints]),
            stopping_after(steps),
        )
        assert stopped.stopped and stopped.soup is None
        again = network()
        snapshot = checkpoints.newest(again).snapshot
        before = state_of(snapshot.plain["state"], plan, best_weights_of(snapshot), candidates_of(snapshot))
        assert [one.epoch for one in before.candidates] == [one.epoch for one in stopped.candidates]
        assert before.best is None or before.best is before.candidates[0]
        state = train(
            again,
            plan,
            judged_by_weights(kind, schedule),
            Observers([Diary(again), checkpoints]),
            lambda: None,
            Saved(before, snapshot),
        )
        assert whole_outcome(again, state) == expected, steps


def test_stopped_in_the_soup_after_its_time_was_up_it_makes_the_same_soup_when_it_goes_on(tmp_path, monkeypatch):
    plan, expected = dataclasses.replace(SOUP, max_seconds=14.5), network()
    clock = Clock(monkeypatch)
    whole = train(expected, plan, clock.tools(judged_by_weights()), Observers([Diary(expected)]), lambda: None)
    assert whole.out_of_time and len(whole.soup.candidates) == 2
    clock.now, model, checkpoints = 0.0, network(), Checkpoints(tmp_path, 1e9)

    def told():
        return BY_SIGNAL if clock.now > 15 else None

    stopped = train(model, plan, clock.tools(judged_by_weights()), Observers([Diary(model), checkpoints]), told)
    assert stopped.stopped and stopped.soup is None and stopped.out_of_time
    again = network()
    snapshot = checkpoints.newest(again).snapshot
    before = state_of(snapshot.plain["state"], plan, best_weights_of(snapshot), candidates_of(snapshot))
    clock.now = 1_000.0
    made = clock.tools(judged_by_weights())
    state = train(again, plan, made, Observers([Diary(again), checkpoints]), lambda: None, Saved(before, snapshot))
    assert state.soup == whole.soup and whole_outcome(again, state) == whole_outcome(expected, whole)


def test_the_best_candidate_is_saved_once():
    model, state = network(), State()
    for number, loss in ((1, 1.0), (2, 2.0)):
        take_candidate(
            state, epoch(number, Scores(1, loss, 0), best=number == 1), lambda: dict(network().state_dict()), 3, by_loss
        )
        state.history.append(state.candidates[-1].epoch)
    names = set(capture(model, state, under_way(model)).tensors)
    assert "best.1.weight" in names and "soup.2.1.weight" in names and not any(n.startswith("soup.1.") for n in names)


def finished(tmp_path):
    """A training with a soup that was kept, as its last saved step tells of it."""
    model, checkpoints = network(), Checkpoints(tmp_path, 10)
    state = train(model, SOUP, judged_by_epoch([0.8, 0.7, 0.75]), Observers([Diary(model), checkpoints]), lambda: None)
    assert state.soup.is_kept and state.soup.epochs == state.soup.candidates[:2]
    return model, state, checkpoints


def test_a_finished_training_with_a_soup_is_trained_longer_from_the_soup(tmp_path):
    model, state, checkpoints = finished(tmp_path)
    found = checkpoints.newest(model)
    assert found.is_done
    again = state_of(found.snapshot.plain["state"], SOUP, state.best.weights, candidates_of(found.snapshot))
    assert again == state
    done, again.soup = len(again.history), None
    again.more.append(More(len(again.ended), 2))
    begun = []

    class Watch(Diary):
        def stage_begins(self, stage, state):
            begun.append(state.best)

    inner, losses = judged_by_epoch([]), iter([0.72, 0.71, 0.7, 0.7, 0.7])
    worse = dataclasses.replace(inner, evaluate=lambda model: Scores(10, 10 * next(losses), 5))
    longer = train(model, SOUP, worse, Observers([Watch(model)]), lambda: None, saved=Saved(again))
    assert begun == [state.best] and [epoch.best for epoch in longer.history[done:]] == [False, False]  # 0.7 was better
    assert longer.soup.candidates == (state.best.epoch.epoch, done + 2, done + 1) and not longer.soup.is_kept
    assert longer.best.soup == state.best.soup
    for name, value in model.state_dict().items():
        assert torch.equal(value, state.best.weights[name])


def test_a_finished_training_makes_its_soup_once(tmp_path):
    model, state, checkpoints = finished(tmp_path)
    plain = checkpoints.newest(model).snapshot.plain["state"]
    silent = dataclasses.replace(judged_by_weights(), evaluate=lambda model: pytest.fail("was judged again"))
    again = train(
        model,
        SOUP,
        silent,
        Observers([Diary(model)]),
        lambda: None,
        saved=Saved(state_of(plain, SOUP, state.best.weights)),
    )
    assert again.soup == state.soup and again.best == state.best


@pytest.mark.parametrize(
    "change",
    [{"candidates": [{"epoch": 2, "validation": {}, "soup": []}]}, {"candidates": 3}, {"soup": {"epochs": 1}},
     {"candidates": [{"epoch": 0, "validation": {"images": 1, "loss_sum": 1, "correct": 1}, "soup": []}]}],
)  # fmt: skip
def test_candidates_that_make_no_sense_are_refused(change):
    with pytest.raises(UsageError, match="the saved state is damaged"):
        state_of(plain_state(State()) | change, SOUP, None)


def test_a_file_of_candidates_that_nothing_tells_of_is_too_large_or_named(tmp_path):
    model, checkpoints = network(), Checkpoints(tmp_path, 10)
    checkpoints.save(model, State(), under_way(model))
    header = json.dumps({"soup.3.1.weight": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "000001.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert "belongs to another network" in checkpoints.newest(model).damaged[0]
    snapshot = capture(model, State(), under_way(model))
    snapshot.tensors["soup.x.1.weight"] = torch.zeros(8, 12)
    with pytest.raises(UsageError, match="is damaged"):
        candidates_of(snapshot)


def test_a_candidate_of_another_network_is_refused():
    with pytest.raises(UsageError, match=r"the saved state is damaged .*a candidate belongs to another network"):
        state_of(plain_state(State()), SOUP, {"1.weight": torch.zeros(1)}, {3: {"2.weight": torch.zeros(1)}})
