"""Results of earlier versions, word for word as they wrote them."""

import json

import pytest

from fieldguide.commands.trial.carry_out import Run
from fieldguide.errors import UsageError
from fieldguide.run_folder import RunFolder

FORMAT_1 = """{
  "recipe": "resnet34-adam", "backbone": "resnet34.tv_in1k", "seed": 0, "num_classes": 3,
  "validation": {"images": 12, "accuracy": 0.75, "chose": "epoch 1 of 3, by validation_loss"},
  "test": null, "test_evaluations": 0, "epochs": 3, "best_epoch": 1,
  "stages": [
    {"kind": "phase", "name": "standard", "learning_rate": 0.001, "epochs": 2, "improved": true,
     "reason": "converged: no better by 0.001 for 2 epochs"},
    {"kind": "phase", "name": "strong", "learning_rate": 0.001, "epochs": 15, "improved": true,
     "reason": "its most epochs"},
    {"kind": "round", "name": "round 1", "learning_rate": 0.0005, "epochs": 1, "improved": false,
     "reason": "interrupted by SIGTERM"}
  ],
  "more_epochs": [], "stopped": "interrupted by SIGTERM", "spoilt": false, "out_of_time": false, "seconds": 9.5
}"""
NOT_FINITE = "the loss is not finite in epoch 2, step 1 (photos train/a.jpg and 0 more); try a lower rate"


def old(path, **changes):
    (path / "result.json").write_text(json.dumps(json.loads(FORMAT_1) | changes))
    return RunFolder(path)


def test_a_result_of_format_1_gives_its_kinds_and_keeps_its_words(tmp_path):
    result = old(tmp_path).read_result()
    assert result["format"] == 2
    assert result["stopped"] == {"kind": "signal", "signal": "SIGTERM", "text": "interrupted by SIGTERM"}
    assert [stage["reason"]["kind"] for stage in result["stages"]] == ["converged", "max_epochs", "stopped"]
    assert result["stages"][0]["reason"]["text"] == "converged: no better by 0.001 for 2 epochs"
    chose = {"kind": "epoch", "text": "epoch 1 of 3, by validation loss"}
    assert result["validation"] == json.loads(FORMAT_1)["validation"] | {"chose": chose}


@pytest.mark.parametrize(
    ("text", "chose"),
    [
        ("the greedy soup of epochs 5, 3 of 6, by validation_loss", {"kind": "soup", "epochs": [5, 3]}),
        ("the epoch, test size and crop of each of 3 folds, by validation_loss", {"kind": "folds"}),
        (None, {"kind": "epoch", "text": "the epoch"}),
    ],
)
def test_a_choice_of_format_1_gives_its_kind(tmp_path, text, chose):
    validation = {"images": 12, "accuracy": 0.75} | ({} if text is None else {"chose": text})
    read = old(tmp_path, validation=validation).read_result()["validation"]["chose"]
    assert chose.items() <= read.items() and read["text"] == (text or "the epoch").replace("_", " ")


@pytest.mark.parametrize("chose", [None, "epoch 1 of 3", {"kind": "epoch"}, {"kind": "soup", "text": "a soup"}])
def test_a_damaged_choice_is_told(tmp_path, chose):
    validation = {"images": 12, "accuracy": 0.75, "chose": chose}
    with pytest.raises(UsageError, match=r"result.json: is damaged \(validation.chose is "):
        old(tmp_path, format=2, stopped=None, stages=[], validation=validation).read_result()


@pytest.mark.parametrize(
    ("stopped", "spoilt", "code", "kind"),
    [
        ("interrupted by SIGHUP", False, 129, "signal"),
        ("interrupted by SIGINT", False, 130, "signal"),
        ("interrupted by SIGTERM", False, 143, "signal"),
        (NOT_FINITE, True, 1, "not_finite"),
        ("train/a.jpg is gone", False, 1, "error"),
        ("", False, 0, None),
    ],
)
def test_a_run_of_format_1_has_the_exit_code_that_it_had(tmp_path, stopped, spoilt, code, kind):
    run = old(tmp_path, stopped=stopped, spoilt=spoilt)
    result = run.read_result()
    assert Run(tmp_path, result).exit_code == code and run.is_finished == (stopped == "")
    assert (result["stopped"] or {"kind": None})["kind"] == kind
    if stopped:
        with pytest.raises(UsageError, match="is not finished") as error:
            run.read_finished_result()
        assert f"({stopped})" in str(error.value)
        assert ("would fail again" in str(error.value)) == spoilt


@pytest.mark.parametrize("number", [3, "x", None])
def test_a_result_of_another_format_is_refused_with_its_number(tmp_path, number):
    with pytest.raises(UsageError, match=f"has format {number!r}; this version reads formats 1 to 2"):
        old(tmp_path, format=number).read_result()


@pytest.mark.parametrize("stopped", ["interrupted by SIGTERM", {"kind": "signal"}, ["x"]])
def test_a_result_whose_stop_is_no_kind_is_damaged(tmp_path, stopped):
    with pytest.raises(UsageError, match="is damaged"):
        old(tmp_path, format=2, stopped=stopped).read_result()


def test_stages_that_are_none_are_damaged(tmp_path):
    with pytest.raises(UsageError, match="is damaged"):
        old(tmp_path, stages=["x"]).read_result()
