import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from fieldguide.training.schedule import Constant, Cosine, Plateau
from fieldguide.training.state import Scores
from tests.training.stages import phase


def optimizer(rate=0.1):
    return torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=rate)


def stage(epochs):
    return phase("p", epochs)


def test_plateau_is_torchs_own_on_validation_accuracy():
    ours, theirs = optimizer(), optimizer()
    schedule = Plateau(ours, "validation_accuracy", 0.1, 3)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, mode="max", factor=0.1, patience=3)
    rates = []
    for correct in [50, 60, 60, 60, 60, 60, 61, 60, 60, 60, 60]:
        schedule.after_epoch(Scores(100, 1.0, correct))
        torchs.step(correct / 100)
        rates.append(ours.param_groups[0]["lr"])
        assert rates[-1] == theirs.param_groups[0]["lr"]
    assert rates[4] == 0.1 and rates[5] == pytest.approx(0.01) and rates[-1] == pytest.approx(0.001)


def test_plateau_waits_for_the_accuracy_that_the_metric_names():
    for accuracy, rate in (("accuracy", 0.1), ("macro_accuracy", 0.05)):
        held = optimizer()
        schedule = Plateau(held, "validation_accuracy", 0.5, 0, accuracy=accuracy)
        schedule.after_epoch(Scores(10, 10.0, 8, (9, 1), (7, 1)))
        schedule.after_epoch(Scores(10, 10.0, 9, (9, 1), (9, 0)))
        assert held.param_groups[0]["lr"] == rate


def test_plateau_on_the_loss_waits_for_a_lower_one():
    held = optimizer()
    schedule = Plateau(held, "validation_loss", 0.5, 0)
    schedule.after_epoch(Scores(10, 10.0, 1))
    schedule.after_epoch(Scores(10, 9.0, 1))
    assert held.param_groups[0]["lr"] == 0.1
    schedule.after_epoch(Scores(10, 9.5, 9))
    assert held.param_groups[0]["lr"] == 0.05


def test_cosine_rises_then_falls_to_nearly_nothing_at_its_last_step():
    held = optimizer()
    schedule = Cosine(held, stage(10), steps_per_epoch=5, warmup_epochs=2)
    rates = []
    for step in range(50):
        schedule.before_step(step)
        rates.append(held.param_groups[0]["lr"])
    assert rates[:10] == sorted(rates[:10]) and rates[10] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[30] == pytest.approx(0.05) and rates[-1] == pytest.approx(0.05 * (1 + math.cos(math.pi * 39 / 40)))


def test_a_warm_up_longer_than_the_stage_still_leaves_a_peak():
    schedule = Cosine(optimizer(), stage(1), steps_per_epoch=4, warmup_epochs=9)
    assert [schedule.share(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_constant_leaves_the_rate():
    held = optimizer()
    schedule = Constant()
    schedule.before_step(7)
    schedule.after_epoch(Scores(1, 1.0, 0))
    assert held.param_groups[0]["lr"] == 0.1


def test_a_cosine_that_was_planned_again_is_stretched_to_the_new_end_without_a_jump():
    again = stage(10).again(4, 6)
    plain, changed = (Cosine(optimizer(), one, 5, warmup_epochs=1) for one in (stage(10), again))
    shares = [changed.share(step) for step in range(30)]
    assert shares[:20] == [plain.share(step) for step in range(20)]
    assert max(abs(after - before) for before, after in pairwise(shares[5:])) < 0.15
    done = 15 / 45 + 30 / 45 * 9 / 10  # 15 of 45 steps after the warm-up, then 9 of the 10 that are left
    assert shares[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * done)))
    assert shares[5:] == sorted(shares[5:], reverse=True)


def test_a_cosine_planned_again_before_it_begins_is_that_of_so_many_epochs():
    for warmup in (0, 1):
        short, again = (Cosine(optimizer(), one, 5, warmup_epochs=warmup) for one in (stage(4), stage(10).again(0, 4)))
        assert [short.share(step) for step in range(20)] == [again.share(step) for step in range(20)]


def test_a_part_of_an_epoch_falls_to_its_end():
    schedule = Cosine(optimizer(), stage(1).again(0, 0.6), 10, warmup_epochs=0.5)
    assert [schedule.share(step) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.75, 0.25])
