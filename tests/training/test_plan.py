import dataclasses

import pytest

from fieldguide.training.ends import Reason
from fieldguide.training.plan import Convergence, Ended, More, Plan, next_stage
from tests.training.stages import phase, rounds

FIRST, SECOND = phase("standard", 15, 0.001), phase("strong", 15, 0.001)
ROUNDS = rounds()
PLAN = Plan((FIRST, SECOND), ROUNDS, None, "validation_loss")


def ended(stage, improved=True):
    return Ended(stage, 5, improved, Reason.MAX_EPOCHS)


def test_phases_come_in_their_order():
    assert next_stage(PLAN, []) == FIRST
    assert next_stage(PLAN, [ended(FIRST)]) == SECOND


def test_each_round_starts_at_half_the_last_starting_rate():
    done, rates = [ended(FIRST), ended(SECOND)], []
    while stage := next_stage(PLAN, done):
        assert stage.kind == "round" and stage.augmentation == "strong" and stage.max_epochs == 10
        rates.append(stage.learning_rate)
        done.append(ended(stage))
    assert rates == [0.0005, 0.00025, 0.000125]


def test_a_round_without_a_better_model_is_the_last():
    done = [ended(FIRST), ended(SECOND)]
    done.append(ended(next_stage(PLAN, done), improved=False))
    assert next_stage(PLAN, done) is None


def test_a_last_phase_without_a_better_model_is_still_followed_by_a_round():
    assert next_stage(PLAN, [ended(FIRST), ended(SECOND, improved=False)]).name == "round 1"


def test_no_rounds_where_none_are_wanted():
    plan = dataclasses.replace(PLAN, rounds=rounds(max_rounds=0))
    assert next_stage(plan, [ended(FIRST), ended(SECOND)]) is None


@pytest.mark.parametrize(("limit", "most"), [(None, 60), (7, 7), (100, 60)])
def test_the_most_epochs_are_those_of_all_phases_and_rounds_or_the_limit(limit, most):
    assert dataclasses.replace(PLAN, max_epochs=limit).most_epochs() == most


def test_converged_means_not_better_by_the_least_improvement_for_the_patience():
    convergence = Convergence(min_improvement=0.001, patience_epochs=3)
    losses = [1.0, 0.9, 0.8995, 0.8992, 0.8991]
    reached = []
    for loss in losses:
        convergence.take(loss)
        reached.append(convergence.is_reached)
    assert reached == [False, False, False, False, True]


def test_small_steps_that_add_up_to_an_improvement_count():
    convergence = Convergence(min_improvement=0.001, patience_epochs=3)
    for step in range(20):
        convergence.take(1 - 0.0006 * step)
        assert not convergence.is_reached


def test_more_epochs_keep_what_the_last_phase_did_with_batch_normalisation():
    last = SECOND.model_copy(update={"batch_norm": "folded", "trainable": "head"})
    plan = dataclasses.replace(PLAN, phases=(FIRST, last))
    done = [ended(FIRST), ended(last)]
    further = [next_stage(plan, done), next_stage(plan, done, [More(2, 5)])]
    assert [(stage.batch_norm, stage.trainable) for stage in further] == [("folded", "head")] * 2
    assert further[1].max_epochs == 5 and further[1].augmentation == ROUNDS.augmentation
