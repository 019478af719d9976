import copy
import sys

import pytest
import torch

from fieldguide import assemble
from fieldguide.assemble import compile_trial, compiling
from fieldguide.assemble.compiling import NO, Trial, TrialFailedError, choose, decide, measure, usual_piece
from fieldguide.model.classifier import Classifier, make_classifier
from fieldguide.recipe.load import read_recipe
from fieldguide.training.step import MicroBatch

BASE = ("model.backbone=test_resnet", "model.weights=none", "rules.backbones=null", "data.image_size_px=32")
PAYS, LOSES = Trial(0.010, 0.008, 30.0), Trial(0.010, 0.0099, 30.0)
ASKED = {
    "photos": 4, "side_px": 32, "batch_norm": "train", "trainable": "all", "precision": "fp32", "device": "cpu",
    "channels_last": True,
}  # fmt: skip


class Parts:
    """Of a team of three, the second."""

    def part(self, count):
        return (11, 22)

    def most(self, count):
        return 11


@pytest.fixture(scope="module")
def recipe():
    return assemble.resolved(read_recipe("resnet50-adam", [*BASE, "training.rounds=0"]))


@pytest.fixture(scope="module")
def model(recipe):
    return make_classifier(assemble.architecture(recipe, 3))


@pytest.mark.parametrize(
    ("batch", "at_once", "team", "expected"),
    [
        *((64, 64, None, 64), (64, 32, None, 32), (64, 24, None, 21), (8, 3, None, 3), (9, 4, None, 3)),
        (33, 33, Parts(), 11),
    ],
)
def test_the_graph_is_for_the_number_of_photos_that_most_passes_have(batch, at_once, team, expected):
    assert usual_piece(batch, MicroBatch(at_once), team) == expected


def test_compiling_has_to_save_more_time_than_it_takes_and_both_are_told():
    yes, no = decide(PAYS, 40_000, 2, 64), decide(PAYS, 20_000, 2, 64)
    assert yes.compiles and not no.compiles and not decide(LOSES, 100_000, 1, 64).compiles
    assert yes.told == ("compiled: 64 photos take 10 ms forward and backward, compiled 8 ms, and compiling takes 30 s")
    assert no.told.startswith("not compiled: 64 photos")


@pytest.mark.parametrize(
    ("steps", "left", "seconds"),
    [(1_999, None, None), (2_000, None, 120), (2_000, 399, None), (2_000, 600, 30), (2_000, 9_999, 120)],
)
def test_it_is_measured_only_in_long_trainings_and_never_takes_much_of_the_minutes(
    recipe, model, monkeypatch, steps, left, seconds
):
    asked = []

    def measured(model, what, most):
        asked.append(most)
        return PAYS

    monkeypatch.setattr(compiling, "measure", measured)
    chosen = choose(model, recipe, "fp32", 64, steps, left)
    assert asked == ([] if seconds is None else [seconds]) and (chosen == NO) == (seconds is None)


def test_what_fails_or_takes_too_long_is_a_sentence_and_the_training_runs_as_it_is(recipe, model, monkeypatch):
    with pytest.raises(TrialFailedError, match="took over 0 s"):  # before torch is imported
        measure(model, ASKED, 0.2)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    chosen = choose(model, recipe, "fp32", 64, 2_000, None)
    assert not chosen.compiles and chosen.told == "not compiled: torch.compile failed (ended with code 1)"


def test_a_network_that_does_not_pickle_is_a_sentence(recipe, model):
    held = copy.deepcopy(model)
    held.backbone.own = lambda images: images
    chosen = choose(held, recipe, "fp32", 64, 2_000, None)
    assert not chosen.compiles and "cannot be given to another process" in chosen.told


@pytest.mark.slow
def test_another_process_measures_and_leaves_the_model_as_it_is(recipe, model, monkeypatch):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")  # compiling for a CPU takes half a minute
    trial = measure(model, ASKED, 100)
    assert min(trial.plain_seconds, trial.compiled_seconds, trial.compile_seconds) > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_the_compiled_pass_is_timed_apart_from_the_plain_one(model, monkeypatch):
    calls, real = [], Classifier.compile

    def backend(graph, inputs):
        def run(*values):
            calls.append(len(values))
            return graph(*values)

        return run

    monkeypatch.setattr(Classifier, "compile", lambda self, **options: real(self, **options, backend=backend))
    monkeypatch.setattr(compile_trial, "SECONDS", 0.0)
    found = compile_trial.measured(copy.deepcopy(model), ASKED)
    assert set(found) == {"plain_seconds", "compiled_seconds", "compile_seconds"}
    assert len(calls) == 1 + compile_trial.WARM_UP + 3
