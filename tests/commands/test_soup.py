"""A greedy soup through a whole training: told, judged, interrupted and gone on with, and trained longer."""

import json
import signal

import pytest
import torch

from fieldguide import evaluate, resume
from fieldguide.assemble import tools
from fieldguide.commands.terminal.training_display import TrainingDisplay
from fieldguide.commands.trial.result import soup_sentence
from fieldguide.model.bundle import read_weights
from fieldguide.model.description import read_description
from fieldguide.report.chosen import chosen
from fieldguide.training.state import Scores, Soup
from tests.commands.by_the_report import train
from tests.torture.runner import EVERY_STEP, differences

STEPS_PER_EPOCH = 5  # 37 photos in batches of 8
SOUP = ("training.soup=greedy", "training.soup_candidates=3")


@pytest.fixture
def judged(monkeypatch):
    """judged(0.9, 0.8, ...): validation's losses in the next training in this process, the epochs', then the soup's."""

    def arrange(*losses):
        given = iter(losses)
        monkeypatch.setattr(
            tools,
            "make_evaluation",
            lambda *_: lambda model: Scores(12, 12 * next(given), 6) if model.eval() else None,
        )

    return arrange


@pytest.mark.parametrize(
    ("metric", "classes", "told"),
    [
        ("accuracy", ((8, 4), (4, 2)), "validation accuracy 0.5000 and loss 0.4000, epoch 3 alone accuracy 0.5000 and"),
        ("macro_accuracy", ((8, 4), (3, 3)), "has validation macro accuracy 0.5625, epoch 3 alone macro"),
    ],
)  # fmt: skip
def test_the_sentence_tells_the_figure_that_chose(metric, classes, told):
    before, after = Scores(12, 6.0, 6, (8, 4), (4, 2)), Scores(12, 4.8, 6, *classes)
    assert told in soup_sentence(Soup((3, 1), (3, 1), before, after, True), "validation_accuracy", metric)


def weights(run):
    return read_weights(run / "bundle", read_description(run / "bundle"))


def test_the_mean_of_the_epochs_is_the_model_and_the_result_says_so(
    photos, tmp_path, small, judged, monkeypatch, capsys
):
    kept, real = {}, TrainingDisplay.epoch_done

    def epoch_done(self, epoch, state):
        kept[epoch.epoch] = {one.epoch.epoch: one.weights for one in state.candidates}
        real(self, epoch, state)

    monkeypatch.setattr(TrainingDisplay, "epoch_done", epoch_done)
    judged(1.0, 0.7, 0.8, 0.9, *(0.75, 0.65, 0.6))  # four epochs; the best again, with the next, with the third
    overrides = (*small, *SOUP, "training.max_epochs=4", "training.rounds=0")
    run = train(photos, output=tmp_path / "run", overrides=overrides)
    result = json.loads((run.path / "result.json").read_text())
    assert result["soup"] == {
        "candidates": [2, 3, 4],
        "epochs": [2, 3, 4],
        "before": {"images": 12, "loss": pytest.approx(0.75), "accuracy": 0.5},
        "after": {"images": 12, "loss": pytest.approx(0.6), "accuracy": 0.5},
        "is_kept": True,
    }
    assert result["best_epoch"] == 2
    assert result["validation"]["chose"] == chosen([2, 3, 4], 4, "validation_loss", "accuracy")
    shown = capsys.readouterr().out
    assert (
        "greedy soup of 3 candidates: the mean of epochs 2, 3, 4 has validation loss 0.6000, epoch 2 alone loss "
        "0.7500; the mean is the model; its figure is optimistic, because validation chose it" in shown
    )
    for name, value in weights(run.path).items():
        several = torch.stack([kept[4][number][name].double() for number in (2, 3, 4)])
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), several.mean(0), rtol=1e-5, atol=1e-6)
    report = (run.path / "report.html").read_text()
    assert "the greedy soup of epochs 2, 3, 4 of 4" in report
    assert evaluate(run.path, photos, quiet=True)  # the bundle is a model like any other


@pytest.mark.slow
def test_a_soup_that_is_no_better_leaves_the_epochs_model(photos, tmp_path, small, judged, capsys):
    overrides = (*small, "training.max_epochs=3", "training.rounds=0")
    judged(1.0, 0.7, 0.8)
    plain = train(photos, output=tmp_path / "plain", overrides=overrides, quiet=True)
    judged(1.0, 0.7, 0.8, *(0.7, 0.71, 0.7))  # the second mean is as good, which is not better
    run = train(photos, output=tmp_path / "run", overrides=(*overrides, *SOUP))
    assert run.result["soup"]["epochs"] == [2, 1] and not run.result["soup"]["is_kept"]
    assert "the mean is not better; that epoch is kept" in capsys.readouterr().out
    assert run.result["validation"] == plain.result["validation"] and plain.result["soup"] is None
    assert (run.path / "bundle/model.safetensors").read_bytes() == (
        plain.path / "bundle/model.safetensors"
    ).read_bytes()
    judged(1.0, 0.7, 0.8, *(0.7, 0.71, 0.72))
    alone = train(photos, output=tmp_path / "alone", overrides=(*overrides, *SOUP))
    assert alone.result["soup"]["epochs"] == [2]
    assert "no mean beats epoch 2 alone (loss 0.7000) on validation; that epoch is kept" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("stopped_after", [2 * STEPS_PER_EPOCH + 3, "the soup began"])
def test_interrupted_and_gone_on_with_it_ends_as_if_it_had_not_been(
    stopped_after, photos, tmp_path, small, monkeypatch
):
    overrides = (*small, *SOUP, EVERY_STEP, "training.ema_decay=0.5", "training.phases.1.batch_norm=folded",
                 "training.phases.0.max_epochs=2", "training.phases.1.max_epochs=2", "training.rounds=0")  # fmt: skip
    whole = train(photos, output=tmp_path / "whole", overrides=overrides, quiet=True)
    assert len(whole.result["soup"]["candidates"]) == 3
    done, step_done, load = [], TrainingDisplay.step_done, tools._load

    def stop_at(event):
        done.append(event)
        if len(done) == stopped_after:
            signal.raise_signal(signal.SIGTERM)

    def stop_in_soup(model, loaded):
        if stopped_after == "the soup began" and len(done) == 4 * STEPS_PER_EPOCH:
            signal.raise_signal(signal.SIGTERM)
            done.append("soup")
        load(model, loaded)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingDisplay, "step_done", lambda self, n: (step_done(self, n), stop_at(n))[0])
        patched.setattr(tools, "_load", stop_in_soup)
        cut = train(photos, output=tmp_path / "cut", overrides=overrides, quiet=True)
    assert cut.exit_code == 143 and cut.result["soup"] is None
    assert resume(tmp_path / "cut", quiet=True).exit_code == 0
    assert differences(whole.path, tmp_path / "cut") == []


def test_trained_longer_the_soup_of_before_is_a_candidate(photos, tmp_path, small, judged):
    judged(1.0, 0.7, *(0.75, 0.6))
    overrides = (*small, *SOUP, "training.max_epochs=2", "training.rounds=0")
    run = train(photos, output=tmp_path / "run", overrides=overrides, quiet=True)
    assert run.result["soup"]["is_kept"]
    before = weights(run.path)
    judged(0.65, *(0.6, 0.7))
    longer = resume(run.path, overrides=["training.more_epochs=1"], quiet=True)
    assert longer.result["soup"]["candidates"] == [2, 3] and not longer.result["soup"]["is_kept"]
    assert longer.result["validation"]["chose"] == chosen([2, 1], 3, "validation_loss", "accuracy")
    assert all(torch.equal(value, before[name]) for name, value in weights(run.path).items())
