import math
from dataclasses import replace

import pytest

from fieldguide.training.budget import (
    FILLED,
    FITTING,
    MEASURED_HEAD,
    MOST_EPOCHS,
    MOST_TO_JUDGE,
    MOST_VIEWS,
    OPEN_ROUNDS,
    RESERVE,
    SOLVING,
    WRITTEN,
    Costs,
    Judging,
    Task,
    candidate_sides,
    choose_batch_size,
    choose_side,
    epochs_again,
    fewest_of_an_epoch,
    has_no_time_for_steps,
    judgings_to_choose,
    most_views,
    plan_epochs,
)

COSTS = Costs(128, forward=0.002, step=0.005)
TASK = Task(images=5_000, validation_images=500, num_classes=20, is_pretrained=True, can_probe=True)


def planned(seconds, task=TASK, part=None, costs=COSTS):
    return plan_epochs(costs, task, seconds, lambda: part)


@pytest.mark.parametrize("seconds", [5, 20, 60, 100, 300, 1_000])
def test_what_is_planned_fits(seconds):
    found = planned(seconds)
    assert found.epochs == 0 or found.is_spare or found.seconds <= FILLED * seconds
    one_more = found.seconds + found.epoch_seconds
    assert one_more > FILLED * seconds or found.epochs == MOST_EPOCHS, "and no further epoch would"


def test_more_time_gives_more_epochs_up_to_the_most():
    counts = [planned(seconds).epochs for seconds in (15, 60, 120, 300, 900, 10**6)]
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == MOST_EPOCHS


def test_before_few_epochs_or_none_a_probe_sees_further_views_of_each_photo_as_far_as_they_fit():
    counts = {seconds: planned(seconds).views for seconds in (10, 25, 50, 75, 150, 1_000)}
    assert counts == {10: 1, 25: MOST_VIEWS, 50: MOST_VIEWS, 75: MOST_VIEWS, 150: MOST_VIEWS, 1_000: 1}
    assert planned(50).is_spare and planned(50).epochs == 1, "time decides after each view, and after the probe"
    assert not planned(10).epochs and not planned(150).is_spare
    assert planned(150).epochs == 3 and planned(150).is_gentle and not planned(1_000).is_gentle
    assert plan_epochs(COSTS, TASK, None, lambda: None).views == 1
    assert planned(100, replace(TASK, can_probe=False)).views == 1


@pytest.mark.parametrize(("images", "views"), [(10, 8), (1_250, 8), (2_000, 5), (3_400, 3), (50_000, 3)])
def test_of_few_photos_a_probe_takes_more_views(images, views):
    assert most_views(images) == views


def test_an_epoch_that_was_not_measured_is_not_planned_for_time_that_a_probe_may_leave():
    found = planned(30, costs=Costs(128, 0.002, math.inf))
    assert found.views == MOST_VIEWS and not found.epochs and not found.is_spare


def test_with_hardly_time_for_the_whole_network_its_last_stages_learn():
    seconds = 2.2 * (5_000 * 0.005 + 1) + 17 + 40
    assert (planned(seconds).part, planned(seconds, part=0.0025).part) == ("all", "last_two_stages")
    assert planned(seconds, part=0.005).part == "all", "not where that brings no further epoch"


def test_without_a_bound_there_are_rounds_and_no_measure_of_a_part():
    found = plan_epochs(COSTS, TASK, None, lambda: pytest.fail("was measured"))
    assert found.epochs and found.rounds == OPEN_ROUNDS and found.probe


@pytest.mark.parametrize("task", [Task(5_000, 500, 20, False, True), Task(5_000, 500, 20, True, False)])
def test_where_nothing_can_be_probed_something_is_trained_however_short_the_time(task):
    found = planned(1, task)
    assert not found.probe and found.epochs == 1 and found.probe_seconds == 0


@pytest.mark.parametrize(("images", "size"), [(1, 8), (70, 8), (128, 16), (300, 32), (511, 32), (512, 64), (10**6, 64)])
def test_the_batch_leaves_eight_steps_where_photos_are_few(images, size):
    assert choose_batch_size(images) == size


def test_sizes_end_at_what_the_weights_know_and_at_twice_the_photos_own():
    assert candidate_sides(224, None) == [96, 128, 160, 192, 224]
    assert candidate_sides(224, 84) == [96, 128, 160] and candidate_sides(224, 4_000)[-1] == 224
    assert candidate_sides(224, 10) == [96] and candidate_sides(32, None) == [32]


def test_the_largest_size_that_leaves_time_for_epochs_is_taken():
    sides = candidate_sides(224, None)
    chosen = [choose_side(sides, COSTS, TASK, seconds) for seconds in (1, 200, 400, 10**5)]
    assert chosen == sorted(chosen) and chosen[0] == 96 and chosen[-1] == 224
    assert choose_side(sides, COSTS, TASK, None) == 224


def test_costs_grow_with_the_pixels():
    assert COSTS.at(256).step == pytest.approx(4 * COSTS.step)


def test_what_comes_after_the_steps_has_its_time_kept():
    judging = Judging(1_000, 0.002, at_end=0.004)
    reserve = judging.reserve(600, 1_000)
    assert reserve - Judging(0, 0.002).reserve(600, 0) == pytest.approx(2 + 4 + 0.2)  # epoch, judging, writing
    mirrored = Judging(1_000, 0.002, at_end=0.008)
    assert mirrored.reserve(600, 1_000) - reserve == pytest.approx(4)
    assert judging.reserve(600, 100) - reserve == pytest.approx(-0.9 * 2)
    assert Judging(1_000, 0.002, 0.004, soup_candidates=3).reserve(600, 1_000) - reserve == pytest.approx(6)
    tried = Judging(1_000, 0.002, 0.008, tried=3)
    assert tried.reserve(600, 1_000) - mirrored.reserve(600, 1_000) == pytest.approx(24)


@pytest.mark.parametrize("seconds", [1, 20, 84, 120, 300])
def test_however_many_validation_photos_there_are_more_than_half_of_the_time_stays_for_training(seconds):
    judging = Judging(10_000, 1 / 60, 1.3 / 60)  # 217 s for all of them
    choosing = judging.choosing(seconds, 81, steps=True)
    assert choosing == 1_000
    assert judging.reserve(seconds, choosing) == pytest.approx(
        RESERVE + WRITTEN * 10_000 + choosing / 60 + max(0.15 * seconds, min(0.2 * seconds, 1.3 * 1_000 / 60))
    )
    fixed = RESERVE + WRITTEN * 10_000 + choosing / 60
    assert judging.reserve(seconds, choosing) - fixed <= MOST_TO_JUDGE * seconds + 1e-9


def test_a_part_of_the_photos_chooses_only_where_time_is_short():
    judging = Judging(1_000, 0.01, 0.015)  # 10 s a pass
    assert [judging.choosing(seconds, 20, steps=False) for seconds in (None, 200, 199)] == [1_000, 1_000, 50]
    assert judging.choosing(100, 200, steps=False) == 200 and judging.choosing(100, 20, steps=True) == 1_000
    assert Judging(300, 1.0).choosing(10, 20, steps=True) == 300


def test_choosing_size_and_crop_on_validation_has_its_time_kept():
    assert judgings_to_choose(size=False, crop=False) == 0
    # the training's setting, three larger sizes, and the judging by the largest of them
    assert judgings_to_choose(size=True, crop=False) == pytest.approx(1 + 1.125**2 + 1.25**2 + 2 * 1.5**2 - 1)
    assert judgings_to_choose(size=False, crop=True, crop_share=0.875) == 3
    assert judgings_to_choose(size=False, crop=True, crop_share=0.9) == 4
    more = judgings_to_choose(size=True, crop=True, crop_share=0.95)
    assert more == pytest.approx(judgings_to_choose(size=True, crop=False) + 2 * 1.5**2)


def test_steps_are_not_measured_where_the_probe_alone_fills_the_time():
    for seconds in (5, 15, 20, 25, 30, 40):
        if has_no_time_for_steps(COSTS.forward, TASK, seconds):
            cheapest = Costs(COSTS.side_px, COSTS.forward, 2 * COSTS.forward)
            found = planned(seconds, costs=cheapest, part=2 * COSTS.forward)
            assert found.epochs == 0 or found.is_spare
    assert has_no_time_for_steps(COSTS.forward, TASK, 20) and not has_no_time_for_steps(COSTS.forward, TASK, 60)
    assert not has_no_time_for_steps(COSTS.forward, TASK, None)
    assert not has_no_time_for_steps(COSTS.forward, Task(5_000, 500, 20, False, True), 1), (
        "without a probe something learns"
    )


def test_an_epoch_that_takes_for_ever_is_not_planned():
    assert planned(10, costs=Costs(128, 0.002, math.inf)).epochs == 0


def test_a_head_of_many_classes_takes_longer_to_solve_for():
    small, large = (replace(TASK, head_parameters=size * MEASURED_HEAD) for size in (1, 4))
    probes = [plan_epochs(COSTS, task, 600, lambda: None).probe_seconds for task in (TASK, small, large)]
    assert probes[1] - probes[0] == pytest.approx(FITTING)
    assert probes[2] - probes[1] == pytest.approx(3 * (FITTING + SOLVING * 5_000))
    slow = plan_epochs(COSTS, replace(small, slowness=2.0), 600, lambda: None).probe_seconds
    assert slow - probes[1] == pytest.approx(FITTING + SOLVING * 5_000)


@pytest.mark.parametrize(
    ("done", "left", "epochs"),
    [
        (4, 6.0, 10),  # as planned
        (4, 5.95, 10),  # the last one is cut a little
        (4, 5.5, 9),
        (4, 3.0, 7),
        (4, 2.5, 6.375),  # the rate falls within a part of an epoch
        (4, 0.5, 4.475),
        (4, 0.2, 4),  # too little for that
        (4, 7.4, 10),  # not worth another plan
        (4, 9.0, 12),
        (4, 1000.0, 30),
        (10, 50.0, 10),  # the rate has fallen to 0
        (0, 0.45, 0),
        (0, 0.8, 0.76),
        (0, 3.0, 3),
    ],
)
def test_epochs_are_planned_again_by_the_time_that_is_left(done, left, epochs):
    assert epochs_again(done, 10, 20.0, 20.0 * left, 30) == pytest.approx(epochs)


@pytest.mark.parametrize(("images", "left", "epochs"), [(5_000, 0.52, 0.494), (20_000, 0.2, 0.19), (20_000, 0.12, 0)])
def test_of_many_photos_less_than_half_an_epoch_is_worth_a_stage(images, left, epochs):
    fewest = fewest_of_an_epoch(images)
    assert epochs_again(0, 1, 100.0, 100.0 * left, 30, fewest=fewest) == pytest.approx(epochs)


@pytest.mark.parametrize(
    ("planned", "left", "epochs"), [(1, 1.5, 1), (1, 1.6, 1.52), (1, 2.2, 2), (2, 2.6, 2), (2, 2.8, 2.66), (4, 5.2, 4)]
)
def test_time_for_half_of_one_more_of_few_epochs_is_taken(planned, left, epochs):
    assert epochs_again(0, planned, 20.0, 20.0 * left, 30) == pytest.approx(epochs)
    assert epochs_again(1, planned + 1, 20.0, 20.0 * left, 30) == pytest.approx(1 + epochs)
    assert epochs_again(0, planned, 20.0, 20.0 * left, planned) == planned


def test_a_plan_keeps_to_bounds_on_epochs_and_rounds():
    from fieldguide.assemble.automatic import bounded
    from fieldguide.training.budget import Planned

    plan = Planned(True, "all", 12, 3, 6, 1.0, 1.0)
    assert bounded(plan, None, 3) == plan and bounded(plan, None, 1).rounds == 1
    assert (bounded(plan, 5, 3).epochs, bounded(plan, 5, 3).rounds) == (4, 0)  # the probe counts as one
    assert (bounded(plan, 20, 3).epochs, bounded(plan, 20, 3).rounds) == (12, 1)
    assert bounded(plan, 1, 3).epochs == 0 and bounded(replace(plan, probe=False), 1, 3).epochs == 1


@pytest.mark.parametrize(("left", "epochs"), [(50.0, 2), (56.0, 2.32)])
def test_a_part_of_an_epoch_is_validated_like_a_whole_one(left, epochs):
    assert epochs_again(0, 1, 20.0, left, 30, validation_seconds=10.0) == pytest.approx(epochs)
