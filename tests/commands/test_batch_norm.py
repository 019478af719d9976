"""Batch normalisation frozen or folded, through a whole training: interrupted, gone on with, and judged."""

import json

import pytest
import torch

from fieldguide import UsageError
from fieldguide import assemble as assembling
from fieldguide.assemble import described
from fieldguide.commands.resume import resume
from fieldguide.errors import Interrupted
from fieldguide.model import batch_norm
from fieldguide.model.bundle import read_weights
from fieldguide.model.classifier import Classifier
from fieldguide.model.description import read_description
from fieldguide.training import step as steps
from tests.commands.by_the_report import train


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["frozen", "folded"])
def test_a_training_with_folded_normalisation_goes_on_as_if_it_had_not_stopped(
    mode, photos, trained, tmp_path, small, monkeypatch
):
    """Its first phase trains the normalisation; the second has it frozen or folded, and is stopped in its middle."""
    overrides = (*small, f"training.phases.1.batch_norm={mode}", "training.phases.0.max_epochs=1",
                 "training.phases.1.max_epochs=2", "execution=fast", "training.precision=fp32")  # fmt: skip
    whole = train(photos, output=tmp_path / "whole", overrides=overrides, quiet=True)

    calls, original = [], steps.train_step

    def stop_later(*arguments):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr("fieldguide.training.loop.train_step", stop_later)
        train(
            photos, output=tmp_path / "cut",
            overrides=(*overrides, "training.checkpoint_every_minutes=0.0001"), quiet=True,
        )  # fmt: skip
    resumed = resume(tmp_path / "cut", quiet=True)
    for key in ("validation", "best_epoch", "stages"):
        assert resumed.result[key] == whole.result[key]
    one, two = (read_weights(run.path / "bundle", read_description(run.path / "bundle")) for run in (whole, resumed))
    assert set(one) == set(two) and all(torch.equal(value, two[name]) for name, value in one.items())
    assert "backbone.conv1.0.bias" not in one


def test_what_a_machine_made_of_auto_is_written_down(photos, tmp_path, small):
    run = train(photos, output=tmp_path / "run", overrides=(*small, "execution=fast", "training.rounds=0"), quiet=True)
    text = (run.path / "recipe.yaml").read_text()
    assert "auto" not in text.replace("# ", "")
    assert run.result["precision"] in ("bf16", "fp32") and run.result["micro_batch_size"] == 8
    assert run.result["halved"] == []


def test_a_training_that_runs_out_of_memory_goes_on_with_less_at_once_and_says_so(
    photos, tmp_path, small, monkeypatch, capsys
):
    original = steps._gradients

    def cramped(model, images, labels, partners, settings, mix, photos):
        if settings.micro_batch.photos > 4:
            raise torch.OutOfMemoryError("no memory")
        return original(model, images, labels, partners, settings, mix, photos)

    monkeypatch.setattr(steps, "_gradients", cramped)
    run = train(photos, output=tmp_path / "run", overrides=(*small, "training.rounds=0"))
    assert "out of memory in epoch 1, step 1" in capsys.readouterr().out
    assert json.loads((run.path / "result.json").read_text())["halved"] == [{"epoch": 1, "step": 1, "photos": 4}]
    assert run.result["epochs"] == 5


def test_a_backbone_that_cannot_be_folded_is_refused_before_the_first_phase(photos, tmp_path, small, monkeypatch):
    monkeypatch.setattr(batch_norm, "TOLERANCE", -1.0)
    with pytest.raises(UsageError, match=r"cannot be folded in this backbone .*; use frozen or train"):
        train(photos, output=tmp_path / "run", overrides=(*small, "training.phases.1.batch_norm=folded"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_what_the_machine_cannot_do_is_told_with_all_other_mistakes(photos, tmp_path, small, monkeypatch):
    for name in ("multiplies_bfloat16", "can_compile"):
        monkeypatch.setattr(described, name, lambda device: False)
    overrides = (*small, "execution=fast", "training.precision=bf16", "training.compile=always", "training.sed=1")
    with pytest.raises(UsageError) as error:
        train(photos, output=tmp_path / "run", overrides=overrides, quiet=True)
    told = str(error.value)
    assert "does not multiply bf16 natively" in told and "needs a C++ compiler" in told and "training.sed" in told


@pytest.mark.slow
def test_a_compiled_training_has_one_graph_a_stage_and_the_same_numbers(photos, tmp_path, small, monkeypatch):
    """The last batch of an epoch and the validation photos, which are of other sizes, run as they are."""
    real, graphs = Classifier.compile, []

    def backend(graph, inputs):
        graphs.append(stages[-1])
        return graph

    stages = []

    def light(self, **options):
        stages.append(len(stages))
        real(self, **options, backend=backend)

    monkeypatch.setattr(Classifier, "compile", light)
    for module in (assembling, described):
        monkeypatch.setattr(module, "can_compile", lambda device: True)
    compiled = (*small, "training.compile=always", "training.phases.0.max_epochs=1", "training.micro_batch_size=3")
    phases = ("training.phases.1.batch_norm=folded", "training.rounds=3", "training.rounds.max_epochs=1")
    run = train(photos, output=tmp_path / "run", overrides=(*compiled, *phases), quiet=True)
    plain = train(
        photos, output=tmp_path / "plain", overrides=(*compiled, *phases, "training.compile=never"), quiet=True
    )
    each = [graphs.count(stage) for stage in stages]
    assert len(run.result["stages"]) == len(stages) >= 3 and set(each) == {1}
    assert run.result["validation"] == plain.result["validation"] and plain.result["compile"]["mode"] == "never"
    assert run.result["compile"]["graphs"] == len(stages) and run.result["compile"]["seconds"] > 0
    assert run.result["epochs"] == len(stages)
