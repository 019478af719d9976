import dataclasses
import json
import random

import pytest
import torch

from fieldguide.errors import TrainingError, UsageError
from fieldguide.storage import digest
from fieldguide.training.checkpoint import best_weights_of, capture, plain_state, restore, state_of
from fieldguide.training.checkpoint_files import Checkpoints
from fieldguide.training.ends import Reason
from fieldguide.training.loop import Saved, train
from fieldguide.training.observers import Observers
from fieldguide.training.optimizer import make_optimizer
from fieldguide.training.plan import Convergence, More
from fieldguide.training.schedule import Constant, Cosine, Plateau
from fieldguide.training.state import State
from fieldguide.training.under_way import UnderWay
from tests.training.test_loop import BY_SIGNAL, PHASES, PLAN, Diary, network, tools

SCHEDULES = {
    "constant": lambda optimizer, stage, steps: Constant(),
    "plateau": lambda optimizer, stage, steps: Plateau(optimizer, "validation_loss", 0.5, 0),
    "cosine": lambda optimizer, stage, steps: Cosine(optimizer, stage, steps, 1),
}
LOSSES = [1.0, 1.1, 0.9, 1.2, 0.95, 0.94, 0.93, 0.92, 0.91, 0.80, 0.79, 0.78, 0.77]


def made(kind, schedule):
    """Tools whose validation depends on the epoch alone, so that a training that goes on sees the same figures."""
    inner = tools(LOSSES)
    asked = []

    def batches(stage, epoch, first_step):
        asked[:] = [epoch]
        return inner.batches(stage, epoch, first_step)

    return dataclasses.replace(
        inner,
        batches=batches,
        evaluate=lambda model: dataclasses.replace(tools([LOSSES[asked[0] - 1]]).evaluate(model)),
        make_optimizer=lambda model, rate: make_optimizer(model, rate, kind=kind, momentum=0.9, weight_decay=0.01),
        make_schedule=SCHEDULES[schedule],
    )


def stopping_after(steps):
    remaining = iter([None] * (steps - 1))
    return lambda: next(remaining, BY_SIGNAL)


def outcome(model, state):
    records = [dataclasses.replace(epoch, seconds=0, images_per_second=0) for epoch in state.history]
    return records, state.ended, {name: value.tolist() for name, value in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "schedule"), [("sgd", "plateau"), ("adam", "plateau"), ("adamw", "cosine")])
def test_stopped_after_any_step_it_ends_as_if_it_had_not_been(tmp_path, kind, schedule):
    whole = network()
    expected = outcome(whole, train(whole, PLAN, made(kind, schedule), Observers([Diary(whole)]), lambda: None))
    for steps in range(1, 40, 3):
        checkpoints, model = Checkpoints(tmp_path / str(steps), 1e9), network()
        state = train(model, PLAN, made(kind, schedule), Observers([Diary(model), checkpoints]), stopping_after(steps))
        if state.stopped is None:
            assert steps > 3 * len(expected[0]) and outcome(model, state) == expected
            continue
        assert state.stopped == BY_SIGNAL
        again = network()
        found = checkpoints.newest(again)
        saved = Saved(state_of(found.snapshot.plain["state"], PLAN, best_weights_of(found.snapshot)), found.snapshot)
        state = train(again, PLAN, made(kind, schedule), Observers([Diary(again), checkpoints]), lambda: None, saved)
        assert outcome(again, state) == expected, steps


def test_the_time_of_the_epoch_in_whose_middle_it_was_saved_counts_too(tmp_path):
    checkpoints, model = Checkpoints(tmp_path / "checkpoint", 1e9), network()
    train(model, PLAN, made("sgd", "constant"), Observers([Diary(model), checkpoints]), stopping_after(2))
    plan = dataclasses.replace(PLAN, max_seconds=1_000.0)
    for spent, out_of_time in ((0.0, False), (1_000.0, True)):
        again = network()
        found = checkpoints.newest(again).snapshot
        found.plain["under_way"]["running"]["seconds"] = spent
        saved, diary = Saved(state_of(found.plain["state"], plan, None), found), Diary(again)
        state = train(again, plan, made("sgd", "constant"), Observers([diary]), lambda: None, saved=saved)
        assert state.out_of_time == out_of_time and (len(state.history) == 1) == out_of_time


def under_way(model, kind="sgd"):
    optimizer = make_optimizer(model, 0.1, kind=kind, momentum=0.9, weight_decay=0)
    return UnderWay(PHASES[0], optimizer, Constant(), Convergence(0.001, 3))


def test_a_probe_that_is_not_judged_yet_is_not_taken_for_the_best_model():
    model = network()
    best = train(
        model, dataclasses.replace(PLAN, max_epochs=1), made("sgd", "constant"), Observers([Diary(model)]), lambda: None
    )
    now = under_way(model)
    assert not any(name.startswith("best.") for name in capture(model, best, now).tensors)
    now.running.images = 12  # of a probe, which has no steps but another head
    assert any(name.startswith("best.") for name in capture(model, best, now).tensors)


def test_two_are_kept_and_the_newest_that_is_whole_is_found(tmp_path):
    model, checkpoints = network(), Checkpoints(tmp_path / "checkpoint", 10)
    for steps in (1, 2, 3):
        now = under_way(model)
        now.running.steps = steps
        checkpoints.save(model, State(), now)
    names = {path.name for path in checkpoints.folder.iterdir()}
    assert names == {f"00000{n}.{end}" for n in (2, 3) for end in ("json", "safetensors")}
    assert checkpoints.newest(model).snapshot.plain["under_way"]["running"]["steps"] == 3
    (checkpoints.folder / "000003.safetensors").write_bytes(b"x")
    found = checkpoints.newest(model)
    assert found.snapshot.plain["under_way"]["running"]["steps"] == 2 and not found.is_done
    assert len(found.damaged) == 1 and "000003" in found.damaged[0]


def test_it_is_due_only_after_its_minutes(tmp_path):
    assert Checkpoints(tmp_path, 0).is_due() and not Checkpoints(tmp_path, 1000).is_due()


@pytest.mark.parametrize("end", ["json", "safetensors"])
def test_any_flipped_or_missing_byte_is_noticed(tmp_path, end):
    model, checkpoints, draw = network(), Checkpoints(tmp_path, 10), random.Random(0)
    checkpoints.save(model, State(), under_way(model))
    path = tmp_path / f"000001.{end}"
    whole = path.read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        if draw.random() < 0.7:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del content[draw.randrange(len(content)) :]
        path.write_bytes(content)
        found = checkpoints.newest(model)
        unchanged = end == "json" and json.loads(whole) == parsed(content)
        assert unchanged or (found.snapshot is None and len(found.damaged) == 1), content
    path.write_bytes(whole)
    assert checkpoints.newest(model).snapshot is not None


def parsed(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_another_networks_checkpoint_is_refused_before_it_takes_memory(tmp_path, monkeypatch):
    model, checkpoints = network(), Checkpoints(tmp_path, 10)
    checkpoints.save(model, State(), under_way(model))
    monkeypatch.setattr("fieldguide.training.checkpoint_files.load", lambda content: pytest.fail("was loaded"))
    (sentence,) = checkpoints.newest(torch.nn.Linear(3, 2)).damaged
    assert "belongs to another network" in sentence
    header = json.dumps({"model.1.weight": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "000001.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert "belongs to another network" in checkpoints.newest(model).damaged[0]
    (tmp_path / "000001.safetensors").write_bytes((10**15).to_bytes(8, "little") + b"{}")
    assert "is damaged" in checkpoints.newest(model).damaged[0]


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    model, checkpoints = network(), Checkpoints(tmp_path, 10)
    checkpoints.save(model, State(), under_way(model))
    before = sorted(path.name for path in tmp_path.iterdir())
    with torch.no_grad():
        model[1].bias[2] = float("inf")
    with pytest.raises(TrainingError, match=r"the weight model\.1\.bias is not finite in epoch 1; try a lower"):
        checkpoints.save(model, State(), under_way(model))
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_a_killed_process_left_between_the_two_files_goes_away(tmp_path):
    model, checkpoints = network(), Checkpoints(tmp_path, 10)
    (tmp_path / "000001.safetensors").write_bytes(b"left")
    assert checkpoints.newest(model).snapshot is None
    checkpoints.save(model, State(), under_way(model))
    assert checkpoints.newest(model).snapshot is not None
    (tmp_path / "000002.safetensors").write_bytes(b"left")
    checkpoints.save(model, State(), under_way(model))
    assert {path.stem for path in tmp_path.iterdir()} == {"000001", "000002"}
    assert checkpoints.newest(model).damaged == ()


def test_at_the_end_no_tensors_are_kept(tmp_path):
    model, checkpoints = network(), Checkpoints(tmp_path, 10)
    state = train(model, PLAN, made("sgd", "constant"), Observers([Diary(model), checkpoints]), lambda: None)
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    found = checkpoints.newest(model)
    assert found.is_done and state_of(found.snapshot.plain["state"], PLAN, state.best.weights) == state


def test_a_checkpoint_of_another_stage_is_refused(tmp_path):
    model = network()
    snapshot = capture(model, State(), under_way(model, "adam"))
    snapshot.plain["under_way"]["rates"] = [0.1, 0.2]
    with pytest.raises(UsageError, match="does not fit this training"):
        restore(snapshot, model, under_way(model, "adam"))


@pytest.mark.parametrize(
    "change",
    [{"ended": [[1, True, "x"]] * 99}, {"best_epoch": 3}, {"history": [{}]}, {"more": "x"}, {"ended": None}],
)
def test_a_state_that_makes_no_sense_is_refused(change):
    with pytest.raises(UsageError, match="the saved state is damaged"):
        state_of(plain_state(State()) | change, PLAN, None)


def test_counts_by_class_are_kept_and_a_checkpoint_without_them_still_reads():
    model = network()
    by_class = {"class_images": (6, 4), "class_correct": (3, 2)}
    inner = made("sgd", "constant")
    counted = dataclasses.replace(inner, evaluate=lambda model: dataclasses.replace(inner.evaluate(model), **by_class))
    state = train(model, PLAN, counted, Observers([Diary(model)]), lambda: None)
    plain = json.loads(json.dumps(plain_state(state)))
    macro = dataclasses.replace(PLAN, metric="macro_accuracy")
    assert state_of(plain, macro, state.best.weights) == state
    for name, value in {"class_correct": [9, 0], "class_images": [6, 5]}.items():
        damaged = json.loads(json.dumps(plain))
        damaged["history"][0]["validation"][name] = value
        with pytest.raises(UsageError, match="the saved state is damaged"):
            state_of(damaged, PLAN, state.best.weights)
    for epoch in plain["history"]:
        del epoch["validation"]["class_images"], epoch["validation"]["class_correct"]
    assert len(state_of(plain, PLAN, state.best.weights).history) == len(state.history)
    with pytest.raises(UsageError, match="the saved state is damaged"):
        state_of(plain, macro, state.best.weights)


def test_more_epochs_follow_after_the_last_stage(tmp_path):
    model = network()
    state = train(model, PLAN, made("sgd", "constant"), Observers([Diary(model)]), lambda: None)
    epochs, stages = len(state.history), len(state.ended)
    state.more.append(More(stages, 2))
    again = train(
        model, PLAN, made("sgd", "constant"), Observers([diary := Diary(model)]), lambda: None, saved=Saved(state)
    )
    assert [stage.name for stage in diary.stages] == ["more epochs 1"] and len(again.history) == epochs + 2
    assert diary.stages[0].learning_rate == again.ended[stages - 1].stage.learning_rate * 0.5


def test_a_checkpoint_of_format_1_whose_reasons_are_sentences_goes_on_with_their_kinds(tmp_path):
    plan, model, checkpoints = dataclasses.replace(PLAN, max_epochs=9), network(), Checkpoints(tmp_path, 1e9)
    train(model, plan, made("sgd", "plateau"), Observers([Diary(model), checkpoints]), stopping_after(26))
    path = tmp_path / f"{checkpoints.numbers()[-1]:06d}.json"
    body = json.loads(path.read_text())["checkpoint"]
    kinds = ["max_epochs", "converged"]
    assert body["format"] == 2 and [reason for _, _, reason, *_ in body["state"]["ended"]][:1] == kinds[:1]
    body["format"] = 1
    body["state"]["ended"] = [
        [4, True, "its most epochs"],
        [3, True, "converged: no better by 0.001 for 3 epochs"],
    ]
    path.write_text(json.dumps({"sha256": checksum_of(body), "checkpoint": body}))
    found = checkpoints.newest(network())
    assert found.damaged == ()
    state = state_of(found.snapshot.plain["state"], plan, best_weights_of(found.snapshot))
    assert [ended.reason for ended in state.ended] == [Reason.MAX_EPOCHS, Reason.CONVERGED]


def test_a_checkpoint_of_a_later_format_is_refused_with_its_number(tmp_path):
    model, checkpoints = network(), Checkpoints(tmp_path, 10)
    checkpoints.save(model, State(), under_way(model))
    body = json.loads((tmp_path / "000001.json").read_text())["checkpoint"] | {"format": 3}
    (tmp_path / "000001.json").write_text(json.dumps({"sha256": checksum_of(body), "checkpoint": body}))
    assert "has format 3; this version reads formats 1 to 2" in checkpoints.newest(model).damaged[0]


def checksum_of(body):
    return digest(json.dumps(body, sort_keys=True).encode())
