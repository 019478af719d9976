"""Cross-validation as a command, and the proof that no photo is judged by a model that saw it."""

import csv
import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from scipy.stats import binom

from fieldguide import PhotosError, TrainingError, UsageError, compare, evaluate, experiment, load, predict
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial import carry_out as trial
from fieldguide.commands.trial import cross_validation as command
from fieldguide.commands.trial import judge_run
from fieldguide.commands.trial.result import report_folds
from fieldguide.data.split import folds as dealing
from fieldguide.data.split.partition import Split
from fieldguide.errors import Interrupted, NotFiniteError
from fieldguide.evaluation.clusters import share_interval
from fieldguide.evaluation.intervals import wilson
from fieldguide.evaluation.label_errors import suspects
from fieldguide.evaluation.predictions import Predictions, read_predictions
from fieldguide.recipe.load import read_recipe
from fieldguide.run_folder import RunFolder
from fieldguide.training.ends import Cause, Stopped
from tests.commands.by_the_report import train

FALSE_ALARM = 1e-4
CONTENTS, COPIES = 60, 12
QUICK = ("training.phases=[{augmentation: none, max_epochs: 1}]", "training.rounds=0")
MEMORISING = (  # in one epoch, since the choice among several would be made on the photos that are judged
    *QUICK,
    "training.schedule=cosine",
    "training.plateau=null",
    "training.batch_size=16",
    "data.crop_share=1",
)


@pytest.fixture(scope="module", autouse=True)
def no_curves():
    """The curves are tested elsewhere, and cost as much as such a small training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_run, "draw_curves", lambda run: [])
        yield


def rows_of(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def cross_validated(tmp_path_factory):
    """(photos, run) of a cross-validation in 3 folds; not to be changed."""
    from tests.commands.conftest import SMALL
    from tests.conftest import write_photo

    root = tmp_path_factory.mktemp("folds")
    for place, (name, count) in enumerate({"ash": 7, "beech": 6, "oak": 1, "yew": 2}.items()):
        for number in range(count):
            write_photo(root / "photos" / "train" / name / f"{number:03d}.png", place + 1, 100 * place + number)
    write_photo(root / "photos" / "test" / "ash" / "000.png", 1, 999)
    shutil.copy(root / "photos/train/ash/000.png", root / "photos/train/ash/copy.png")
    overrides = (*SMALL, *QUICK, "split.folds=3")
    return root / "photos", train(root / "photos", output=root / "run", overrides=overrides, quiet=True)


def test_likely_label_errors_are_looked_for_among_all_photos(cross_validated):
    _, run = cross_validated
    kept = read_predictions(run.path / "out_of_fold.npz")
    rows = rows_of(run.path / "label_errors.csv")
    truth = {row["file"]: row["class"] for row in rows_of(run.path / "out_of_fold.csv")}
    assert len(rows) == len(suspects(kept)) and all(truth[row["file"]] == row["given"] for row in rows)
    assert (run.path / "label_errors.csv").read_text().startswith("file,given,suggested,confidence,given_confidence,")


def test_two_cross_validations_of_the_same_photos_are_compared_photo_by_photo(cross_validated, tmp_path):
    other = shutil.copytree(cross_validated[1].path, tmp_path / "other")
    files = {"json_file": tmp_path / "t.json", "html_file": tmp_path / "t.html"}
    assert len(compare([cross_validated[1].path, other], **files, quiet=True)) == 2
    (pair,) = json.loads((tmp_path / "t.json").read_text())["comparisons"]["pairs"]
    assert pair["n"] == 16 and pair["difference"] == 0
    assert "No curves" in (tmp_path / "t.html").read_text()


def test_each_photo_is_predicted_once_by_the_model_of_its_fold(cross_validated):
    photos, run = cross_validated
    place = {row["file"]: row["fold"] for row in rows_of(run.path / "folds.csv")}
    dealt = Counter(place.values())
    assert dealt.keys() == {"1", "2", "3", "train", "test"} and (dealt["train"], dealt["test"]) == (1, 1)
    assert max(dealt[fold] for fold in "123") - min(dealt[fold] for fold in "123") <= 1
    rows = rows_of(run.path / "out_of_fold.csv")
    assert {row["file"]: row["fold"] for row in rows} == {file: f for file, f in place.items() if f.isdecimal()}
    assert len(rows) == 16 and place["train/ash/000.png"] == place["train/ash/copy.png"]
    for number in (1, 2, 3):
        split = {row["file"]: row["part"] for row in rows_of(run.path / f"fold-{number}" / "split.csv")}
        mine = [row for row in rows if row["fold"] == str(number)]
        assert {file for file, part in split.items() if part == "val"} == {row["file"] for row in mine}
        assert split["train/oak/000.png"] == "train" and split["test/ash/000.png"] == "test"
        again = load(run.path / f"fold-{number}").predict([photos / row["file"] for row in mine])
        assert [row["predicted"] for row in mine] == [prediction.label for prediction in again]
        # without the fold's temperature, which was fitted on these very photos
        logits = load(run.path / f"fold-{number}").logits([photos / row["file"] for row in mine])
        confidences = [float(softmax(answer).max()) for _, answer, _ in logits]
        assert [float(row["confidence"]) for row in mine] == pytest.approx(confidences, abs=1e-5)


def test_the_logits_of_every_class_say_the_same(cross_validated):
    _, run = cross_validated
    found = read_predictions(run.path / "out_of_fold.npz")
    rows = {row["file"]: row for row in rows_of(run.path / "out_of_fold.csv")}
    assert found.classes == ("ash", "beech", "oak", "yew") and set(found.files) == set(rows)
    best = dict(zip(found.files, found.predicted(), strict=True))
    assert all(found.classes[best[file]] == row["predicted"] for file, row in rows.items())
    true = dict(zip(found.files, found.labels, strict=True))
    assert all(found.classes[true[file]] == row["class"] for file, row in rows.items())


def test_the_result_has_the_figure_over_all_photos_and_mean_and_spread_over_folds(cross_validated):
    _, run = cross_validated
    result = json.loads((run.path / "result.json").read_text())
    assert result == json.loads(json.dumps(run.result)) and run.exit_code == 0
    rows = rows_of(run.path / "out_of_fold.csv")
    right = [row["class"] == row["predicted"] for row in rows]
    validation, folds = result["validation"], result["folds"]
    assert validation["images"] == 16 and validation["accuracy"] == sum(right) / 16
    kept = read_predictions(run.path / "out_of_fold.npz")
    assert validation["groups"] == 15  # a photo lies there twice
    bounds = share_interval(kept.predicted() == kept.labels, kept.groups)
    assert (validation["accuracy_low"], validation["accuracy_high"]) == bounds != wilson(sum(right), 16)
    assert "epoch of each of 3 folds" in validation["chose"]["text"]
    each = [np.mean([r for r, row in zip(right, rows, strict=True) if row["fold"] == f]) for f in "123"]
    assert [row["accuracy"] for row in folds["each"]] == pytest.approx(each)
    assert folds["n"] == 3 and folds["mean"] == pytest.approx(np.mean(each))
    assert folds["deviation"] == pytest.approx(np.std(each, ddof=1))
    own = [json.loads((run.path / f"fold-{f}" / "result.json").read_text())["validation"] for f in (1, 2, 3)]
    assert [figures["accuracy"] for figures in own] == pytest.approx(each)
    assert sum("oak" in remark and "one photo" in remark for remark in result["remarks"]) == 1
    assert any("yew (in 2)" in remark for remark in result["remarks"])
    assert result["split"]["out_of_fold"] == 16 and result["split"]["always_train"] == 1


def test_the_loss_over_all_photos_is_not_bounded_a_photo_as_that_of_probabilities_would_be(cross_validated):
    _, run = cross_validated
    results = [RunFolder(run.path).fold(number).read_result() for number in (1, 2, 3)]
    wrong = Predictions(("a", "b"), np.array([0, 0]), np.array([[0.0, 100.0], [100.0, 0.0]]), ("ash", "oak"))
    found = command.OutOfFold(wrong, np.array([1, 2]), ())
    empty = dealing.Folds((Split([]),) * 3, ())
    recipe = read_recipe(run.path / "recipe.yaml")
    assert command._result(recipe, empty, results, found, ())["validation"]["loss"] == pytest.approx(50.0)


def test_folds_that_the_minutes_ended_are_named(cross_validated, capsys):
    _, run = cross_validated
    result = RunFolder(run.path).read_result()
    result["folds"]["each"][1]["out_of_time"] = True
    report_folds(RunFolder(run.path), result, Screen())
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 of 3 folds ran out of time (2)" in shown


def test_a_fold_is_a_run_and_the_whole_says_so(cross_validated, tmp_path):
    photos, run = cross_validated
    assert evaluate(run.path / "fold-2", photos, part="val", quiet=True).figures["failed"] == []
    sentence = "is a cross-validation with one model per fold; pass one of them, such as .*fold-1, or train without"
    for ask in (
        lambda: run.load(),
        lambda: evaluate(run.path, photos, quiet=True),
        lambda: predict(run.path, [photos], tmp_path / "out.csv", quiet=True),
        lambda: train(photos, output=tmp_path / "run", weights=run.path, overrides=("rules.backbones=null",)),
    ):
        with pytest.raises(UsageError, match=sentence):
            ask()
    assert compare([run.path], quiet=True)[0]["validation_images"] == 16
    with pytest.raises(UsageError, match="different splits"):
        compare([run.path, run.path / "fold-1"], quiet=True)
    with pytest.raises(UsageError, match="holds a run already"):
        train(photos, output=run.path, overrides=("split.folds=3",), quiet=True)


def test_what_it_says_on_the_screen(cross_validated, tmp_path, small, capsys):
    photos, _ = cross_validated
    train(photos, output=tmp_path / "run", overrides=(*small, *QUICK, "split.folds=2"))
    shown = capsys.readouterr().out
    assert "fold 2 of 2" in shown and "mean over 2 folds" in shown and "standard deviation" in shown
    assert (
        "out-of-fold accuracy" in shown
        and "n = 16 in 15 groups; each photo by the model that was not trained on it" in shown
    )
    assert "so it is optimistic" in shown and "classes with one photo" in shown


def test_folds_beside_what_would_be_ignored_are_refused(photos, tmp_path, small):
    with pytest.raises(UsageError, match=r"split.validation_share would be ignored, because split.folds is 3; set"):
        train(photos, output=tmp_path / "run", overrides=(*small, "split.folds=3", "split.validation_share=0.2"))
    with pytest.raises(UsageError, match=r"split.folds"):
        train(photos, output=tmp_path / "run", overrides=(*small, "split.folds=1"))
    with pytest.raises(PhotosError, match=r"split.folds makes its own validation photos, but there is a val/ folder"):
        train(photos, output=tmp_path / "run", overrides=(*small, "split.folds=3"), quiet=True)
    with pytest.raises(UsageError, match=r"split.folds is 3, but the trials of an experiment share one split"):
        experiment(photos, ["resnet34-adam"], tmp_path / "run", overrides=(*small, "split.folds=3"), quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["rules.max_parameters=1000", "split.folds=50"])
def test_a_refused_request_leaves_nothing_behind(cross_validated, tmp_path, small, setting):
    photos, _ = cross_validated
    with pytest.raises((UsageError, PhotosError)):
        train(photos, output=tmp_path / "run", overrides=(*small, *QUICK, "split.folds=3", setting), quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keyboard", "signal", "loss"])
def test_what_ends_a_fold_keeps_the_folds_before_it(cross_validated, tmp_path, small, monkeypatch, capsys, kind):
    photos, _ = cross_validated
    error = {"keyboard": Interrupted("SIGINT", "x"), "signal": Interrupted("SIGTERM", "x"), "loss": TrainingError("x")}[
        kind
    ]
    real, called, go_on = trial.train_loop, [], f"fieldguide train --resume {tmp_path / 'run'}"

    def second_fails(*arguments):
        called.append(1)
        if len(called) == 2:
            raise KeyboardInterrupt if kind == "keyboard" else error
        return real(*arguments)

    monkeypatch.setattr(trial, "train_loop", second_fails)
    with pytest.raises(type(error)):
        train(photos, output=tmp_path / "run", overrides=(*small, *QUICK, "split.folds=3"))
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 of 3 folds finished" in shown and f"resume with {go_on}" in shown
    assert load(tmp_path / "run" / "fold-1").classes == ("ash", "beech", "oak", "yew")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names - {"fold-2"} == {"recipe.yaml", "resume.json", "folds.csv", "fold-1"}
    with pytest.raises(UsageError, match=f"holds an unfinished run; resume it: {re.escape(go_on)}"):
        train(photos, output=tmp_path / "run", overrides=("split.folds=3",), quiet=True)
    with pytest.raises(UsageError, match="is not a finished run"):
        compare([tmp_path / "run"], quiet=True)


@pytest.mark.parametrize("has_model", [True, False])
def test_a_fold_whose_loss_is_not_finite_is_not_sent_to_where_it_would_end_again(
    cross_validated, tmp_path, small, monkeypatch, capsys, has_model
):
    photos, _ = cross_validated
    real, why, called = trial.train_loop, "the loss is not finite in epoch 2", []

    def second_fails(*arguments):
        called.append(1)
        if len(called) == 2 and not has_model:
            raise NotFiniteError(why)
        state = real(*arguments)
        if len(called) == 2:
            state.stopped = Stopped(Cause.NOT_FINITE, what="loss", epoch=2)
        return state

    monkeypatch.setattr(trial, "train_loop", second_fails)
    overrides = (*small, *QUICK, "split.folds=3")
    if has_model:
        assert train(photos, output=tmp_path / "run", overrides=overrides).exit_code == 1
    else:
        with pytest.raises(TrainingError, match=why):
            train(photos, output=tmp_path / "run", overrides=overrides)
    shown = " ".join(capsys.readouterr().out.split())
    assert "resuming would fail again in fold 2; start a new run with another output and another setting" in shown
    assert "--resume" not in shown


def test_a_signal_in_mid_fold_keeps_its_best_model_and_ends_all(cross_validated, tmp_path, small, monkeypatch):
    photos, _ = cross_validated
    real = trial.train_loop

    def stopping(*arguments):
        state = real(*arguments)
        state.stopped = Stopped(Cause.SIGNAL, signal="SIGINT")
        return state

    monkeypatch.setattr(trial, "train_loop", stopping)
    run = train(photos, output=tmp_path / "run", overrides=(*small, *QUICK, "split.folds=3"), quiet=True)
    assert run.exit_code == 130 and run.result["fold"] == 1
    assert (tmp_path / "run/fold-1/result.json").exists() and not (tmp_path / "run/result.json").exists()
    assert not (tmp_path / "run/fold-2").exists()


@pytest.mark.parametrize("leaks", ["refuse", "drop"])
def test_a_test_photo_that_is_to_be_dealt_is_refused_or_dropped(cross_validated, tmp_path, small, leaks):
    photos = shutil.copytree(cross_validated[0], tmp_path / "photos")
    shutil.copy(photos / "train/ash/003.png", photos / "test/ash/leak.png")
    overrides = (*small, *QUICK, "split.folds=2", f"data.leaks={leaks}")
    if leaks == "refuse":
        with pytest.raises(PhotosError, match=r"train/ash/003.png is the same photo as test/ash/leak.png"):
            train(photos, output=tmp_path / "run", overrides=overrides, quiet=True)
        return
    train(photos, output=tmp_path / "run", overrides=overrides, quiet=True)
    place = {row["file"]: row["fold"] for row in rows_of(tmp_path / "run" / "folds.csv")}
    assert place["train/ash/003.png"] == "excluded" and place["test/ash/leak.png"] == "test"


def test_groups_of_the_recipe_are_held_out_together(cross_validated, tmp_path, small):
    photos, _ = cross_validated
    pattern = "split.group_pattern='^(?P<group>00[123])'"
    train(photos, output=tmp_path / "run", overrides=(*small, *QUICK, "split.folds=2", pattern), quiet=True)
    place = {row["file"]: row["fold"] for row in rows_of(tmp_path / "run" / "folds.csv")}
    for name in ("001", "002", "003"):
        assert len({fold for file, fold in place.items() if file.endswith(f"/{name}.png")}) == 1
    assert set(place.values()) == {"1", "2", "train", "test"}


@pytest.fixture(scope="module")
def random_labels(tmp_path_factory):
    """Photos that are easy to tell apart, each with copies, under one of two labels that nothing in them tells."""
    root, draw = tmp_path_factory.mktemp("random"), np.random.default_rng(0)
    for number, label in enumerate(draw.permutation(["a", "b"] * (CONTENTS // 2))):
        pixels = np.kron(draw.integers(0, 256, (2, 2, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        (root / label).mkdir(exist_ok=True)
        for copy in range(COPIES):
            Image.fromarray(pixels).save(root / label / f"{number:03d}-{copy}.png")
    return root


def right_contents(rows):
    """How many contents were told right, and of how many; a content is as right as its copies."""
    shares = {}
    for row in rows:
        shares.setdefault(row["file"].split("/")[1].split("-")[0], []).append(row["class"] == row["predicted"])
    return round(sum(np.mean(share) for share in shares.values())), len(shares)


def bounds(contents):
    """Counts between which guessing stays, but for one time in 1 / FALSE_ALARM; the copies are no further evidence."""
    return binom.ppf(FALSE_ALARM / 2, contents, 0.5), binom.isf(FALSE_ALARM / 2, contents, 0.5)


@pytest.mark.slow
def test_cross_validation_on_random_labels_gives_chance_accuracy(random_labels, tmp_path, small):
    run = train(random_labels, output=tmp_path / "run", overrides=(*small, *MEMORISING, "split.folds=3"), quiet=True)
    right, contents = right_contents(rows_of(run.path / "out_of_fold.csv"))
    low, high = bounds(contents)
    assert contents == CONTENTS and low <= right <= high


@pytest.mark.slow
def test_with_copies_in_two_folds_the_same_test_would_fail(random_labels, tmp_path, small, monkeypatch):
    monkeypatch.setattr(dealing, "whole_groups", lambda rows, groups: {row.file: [row] for row in rows})
    run = train(random_labels, output=tmp_path / "run", overrides=(*small, *MEMORISING, "split.folds=3"), quiet=True)
    right, contents = right_contents(rows_of(run.path / "out_of_fold.csv"))
    assert contents == CONTENTS and right > bounds(contents)[1]


@pytest.mark.slow
def test_a_held_out_validation_on_random_labels_gives_chance_accuracy(random_labels, tmp_path, small):
    overrides = (*small, *MEMORISING, "split.validation_share=0.5")
    run = train(random_labels, output=tmp_path / "run", overrides=overrides, quiet=True)
    rows = [row for row in rows_of(run.path / "split.csv") if row["part"] == "val"]
    for row, prediction in zip(rows, run.load().predict([random_labels / row["file"] for row in rows]), strict=True):
        row["predicted"] = prediction.label
    right, contents = right_contents(rows)
    low, high = bounds(contents)
    assert run.result["validation"]["images"] == COPIES * contents
    assert contents == CONTENTS / 2 and low <= right <= high


@pytest.mark.slow
def test_a_validation_with_copies_of_training_photos_would_fail_the_same_test(random_labels, tmp_path, small):
    for path in sorted(random_labels.glob("*/*.png")):
        part = "val" if path.stem.endswith("-0") else "train"
        target = tmp_path / "photos" / part / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    overrides = (*small, *MEMORISING, "data.leaks=allow")
    run = train(tmp_path / "photos", output=tmp_path / "run", overrides=overrides, quiet=True)
    figures = run.result["validation"]
    assert figures["images"] == CONTENTS and figures["accuracy"] * CONTENTS > bounds(CONTENTS)[1]


def test_a_cross_validation_has_a_report_in_each_fold(cross_validated):
    from fieldguide.report.write import report

    _, run = cross_validated
    with pytest.raises(UsageError, match="is a cross-validation; each fold has its own report"):
        report(run.path)
    assert (run.path / "fold-1" / "report.html").exists()
