"""Whatever the photos and however short the minutes: every class is seen, and what was judged is told."""

import json
import math
import re

import pytest

from fieldguide import evaluate, train
from fieldguide.commands.trial.carry_out import unused
from fieldguide.evaluation.metrics import judge
from fieldguide.evaluation.predictions import read_predictions
from fieldguide.recipe.load import read_recipe
from tests.commands.test_auto import AT_32_PX

SAME = ("images", "accuracy", "accuracy_low", "macro_accuracy", "macro_accuracy_low", "macro_accuracy_high")
UNEVEN = {"train/a": 6, "train/b": 6, "val/a": 8, "val/b": 4}


@pytest.fixture
def few_are_enough(monkeypatch):
    """So few photos that a small test has more."""
    monkeypatch.setattr("fieldguide.training.budget.FOLLOWING", 1)
    monkeypatch.setattr("fieldguide.training.budget.FEWEST", 1)


@pytest.fixture
def two_epochs(monkeypatch):
    """At most, in any plan."""
    for name in ("OPEN_EPOCHS", "OPEN_EPOCHS_FROM_SCRATCH", "MOST_EPOCHS", "MOST_EPOCHS_FROM_SCRATCH"):
        monkeypatch.setattr(f"fieldguide.training.budget.{name}", 2)
    monkeypatch.setattr("fieldguide.training.budget.OPEN_ROUNDS", 0)


def history(run):
    return [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]


def test_a_part_of_the_validation_photos_chooses_the_epoch_and_all_are_judged(tmp_path, make_photos, two_epochs):
    photos = make_photos(tmp_path / "photos", UNEVEN)
    settings = (*AT_32_PX, "training.validation_photos=6")
    run = train(photos, output=tmp_path / "run", weights="none", overrides=settings, quiet=True)
    chosen_by = [epoch["validation"] for epoch in history(run)]
    assert [figures["images"] for figures in chosen_by] == [6, 6]
    validation = run.result["validation"]
    assert validation["images"] == 12 and "not_judged" not in validation and validation["chose"]["photos"] == 6
    assert "by validation accuracy on at most 6 of them" in validation["chose"]["text"]
    shares = {figures["macro_accuracy"] * 8 % 1 for figures in chosen_by}
    assert shares == {0.0}  # 4 photos of one class and 2 of the other
    again = train(photos, run.path / "recipe.yaml", tmp_path / "again", weights="none", quiet=True)
    assert [epoch["validation"] for epoch in history(again)] == chosen_by


def test_where_time_is_up_judging_ends_after_a_few_of_each_class_and_says_so(
    tmp_path, make_photos, few_are_enough, capsys
):
    photos = make_photos(tmp_path / "photos", UNEVEN)
    run = train(photos, output=tmp_path / "run", weights="none", overrides=AT_32_PX, minutes=0.001)
    assert run.result["validation"]["images"] == 2 and run.result["validation"]["not_judged"] == 10
    kept = read_predictions(run.path / "predictions.npz")
    figures = judge(kept.probabilities(), kept.labels, kept.classes, kept.groups)
    assert {name: run.result["validation"][name] for name in SAME} == {name: figures[name] for name in SAME}
    assert sorted(kept.labels.tolist()) == [0, 1] and list(kept.files) == sorted(kept.files)
    assert "judging 2 of 12 validation photos" in " ".join(capsys.readouterr().out.split())
    assert "10 validation photos not judged, because time was up" in (run.path / "report.html").read_text()
    assert evaluate(run.path, photos, part="val", quiet=True).figures["images"] == 12


def test_a_probe_that_has_no_time_sees_a_few_photos_of_each_class_and_fills_no_cache(tmp_path, make_photos, weights):
    parts = {f"{part}/{name}": count for name in "abcde" for part, count in (("train", 20), ("val", 2))}
    photos = make_photos(tmp_path / "photos", parts)
    settings = (*AT_32_PX, "training.batch_size=8")
    run = train(photos, output=tmp_path / "run", weights=weights, overrides=settings, minutes=0.001, quiet=True)
    seen = run.result["probe"]["training"]
    late = re.search(
        r"the time is about (\d+) s too short even for this, so training ends late$", run.result["plan"][0]
    )
    assert late is not None and int(late[1]) > 0
    assert read_recipe(run.path / "recipe.yaml").data.cache_side_px == 0
    assert run.result["out_of_time"] and seen["images"] == 16 and run.result["validation"]["images"] == 10
    assert read_recipe(run.path / "recipe.yaml").training.phases[0].replanned == ((2 / 13, 2 / 13),)
    again = train(photos, run.path / "recipe.yaml", tmp_path / "again", weights=weights, quiet=True)
    assert again.result["probe"] == run.result["probe"] and not again.result["out_of_time"]


def test_an_epoch_that_time_cut_is_trained_again_by_the_recipe_that_was_left(tmp_path, make_photos):
    photos = make_photos(tmp_path / "photos", {"train/a": 20, "train/b": 20, "val/a": 4, "val/b": 4})
    settings = (*AT_32_PX, "training.batch_size=8")
    run = train(photos, output=tmp_path / "run", weights="none", overrides=settings, minutes=0.001, quiet=True)
    [epoch] = history(run)
    assert run.result["out_of_time"] and 0 < epoch["training"]["images"] < 40
    again = train(photos, run.path / "recipe.yaml", tmp_path / "again", weights="none", quiet=True)
    [repeated] = history(again)
    assert repeated["training"] == epoch["training"] and repeated["validation"] == epoch["validation"]
    assert not again.result["out_of_time"]


@pytest.mark.parametrize(
    ("epoch", "why"),
    [
        (80.0, "another epoch would take about 80 s"),
        (math.inf, "no epoch fits"),
        (30.0, "the plan has no more epochs"),
    ],
)
def test_what_is_left_of_the_minutes_is_told_with_the_reason(epoch, why):
    assert unused(70.0, epoch) == f"70 s of the minutes unused: {why}"


@pytest.mark.slow
def test_a_training_that_ends_long_before_its_minutes_says_so(tmp_path, make_photos, weights, two_epochs, capsys):
    photos = make_photos(tmp_path / "photos", UNEVEN)
    train(photos, output=tmp_path / "run", weights=weights, overrides=AT_32_PX, minutes=60)
    assert "min of the minutes unused: the plan has no more epochs" in capsys.readouterr().out
