"""What train, evaluate and predict do with the temperature."""

import csv
import json
import shutil

import numpy as np
import pytest
from scipy.special import softmax

from fieldguide import UsageError, evaluate, load, predict
from fieldguide.evaluation.calibration import calibration_summary, fit_temperature, log_loss, temperatures_without_each
from fieldguide.evaluation.predictions import read_predictions
from fieldguide.model.bundle import write_temperature
from fieldguide.run_folder import RunFolder
from tests.commands.by_the_report import train


@pytest.fixture(scope="module")
def kept(trained):
    """The predictions that a run keeps."""
    return read_predictions(RunFolder(trained[1].path).predictions)


@pytest.fixture(scope="module")
def doubtful(trained, small, tmp_path_factory):
    """(photos, run) where some validation photos lie in the folder of another class, so that a temperature matters."""
    root = tmp_path_factory.mktemp("doubtful")
    shutil.copytree(trained[0], root / "photos")
    for one, other in (("10", "2"), ("2", "cat"), ("cat", "10")):
        (root / "photos/val" / one / "000.png").rename(root / "photos/val" / other / f"from-{one}.png")
    settings = (*small, "training.phases.0.max_epochs=3", "training.rounds=0", "training.phases.1.max_epochs=1")
    return root / "photos", train(root / "photos", output=root / "run", overrides=settings, quiet=True)


@pytest.fixture
def run(trained, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(trained[1].path, tmp_path / "run")
    return tmp_path / "run"


def model_json(run):
    return json.loads((run / "bundle/model.json").read_text())


def test_a_run_keeps_the_logits_of_its_validation_photos(trained, kept):
    photos, run = trained
    names = sorted(path.relative_to(photos).as_posix() for path in (photos / "val").rglob("*.png"))
    assert sorted(kept.files) == names and kept.classes == ("10", "2", "cat")
    assert [kept.classes[label] for label in kept.labels] == [name.split("/")[1] for name in kept.files]
    again = load(run.path, "cpu")
    logits = [found for _, found, _ in again.logits([photos / name for name in kept.files])]
    np.testing.assert_allclose(kept.logits, logits, atol=1e-5)


def test_the_bundle_has_the_temperature_of_the_validation_photos(trained, kept):
    fitted, data = fit_temperature(kept.logits, kept.labels), model_json(trained[1].path)
    assert data["temperature"] == fitted.value == trained[1].result["calibration"]["temperature"]
    assert data["calibration"] == {"fitted_on_n": 12, "note": fitted.note}
    assert load(trained[1].path, "cpu").temperature == fitted.value


def test_the_figures_after_calibration_are_cross_fitted_and_the_loss_is_not_calibrated(doubtful):
    result, kept = doubtful[1].result, read_predictions(RunFolder(doubtful[1].path).predictions)
    calibration = result["calibration"]
    assert calibration == calibration_summary(kept.logits, kept.labels)
    calibrated = kept.logits / temperatures_without_each(kept.logits, kept.labels)[:, None]
    of_truth = softmax(calibrated, axis=1)[np.arange(12), kept.labels]
    assert calibration["log_loss_after"] == pytest.approx(-np.log(of_truth).mean(), abs=1e-12)
    in_sample = log_loss(kept.logits / calibration["temperature"], kept.labels)
    assert calibration["temperature"] != 1 and in_sample < calibration["log_loss_before"]
    assert calibration["log_loss_after"] > in_sample + 1e-6
    assert "cross-fitted" in calibration["judged"] and calibration["judged_on_n"] == 12
    assert result["validation"]["loss"] == calibration["log_loss_before"] == log_loss(kept.logits, kept.labels)
    best = next(line for line in RunFolder(doubtful[1].path).read_history() if line["epoch"] == result["best_epoch"])
    assert result["validation"]["loss"] == pytest.approx(best["validation"]["loss"], abs=1e-5)


def test_on_test_the_bundles_temperature_is_judged_as_it_is(trained, run):
    photos, _ = trained
    write_temperature(run / "bundle", 2.5, 12, None)
    figures = evaluate(run, photos, part="test", quiet=True).figures
    calibration, uncalibrated = figures["calibration"], load(run, "cpu")
    files = sorted((photos / "test").rglob("*.png"))
    logits = np.stack([found for _, found, _ in uncalibrated.logits(files)])
    labels = np.array([uncalibrated.classes.index(path.parent.name) for path in files])
    assert calibration["temperature"] == 2.5 and "on the test photos" in calibration["judged"]
    assert calibration["log_loss_after"] == pytest.approx(log_loss(logits / 2.5, labels), abs=1e-5)
    assert figures["loss"] == calibration["log_loss_before"] == pytest.approx(log_loss(logits, labels), abs=1e-5)
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["calibration"] == calibration and result["test_evaluations"] == 1
    assert set(calibration) >= {"ece_before", "ece_after"} and figures["per_class"] and "confused_pairs" in figures


def test_on_validation_it_is_cross_fitted_and_said_to_be_the_photos_of_the_fit(doubtful):
    photos, made = doubtful
    found = evaluate(made.path, photos, part="val", quiet=True).figures["calibration"]
    assert found["judged"].startswith("the temperature was fitted on these photos, so 5-fold cross-fitted")
    expected = made.result["calibration"]
    for name in ("temperature", "log_loss_before", "log_loss_after", "ece_before", "ece_after"):
        assert found[name] == pytest.approx(expected[name], abs=1e-4)


def test_a_bundle_alone_cannot_tell_so_it_is_cross_fitted(trained, run, tmp_path):
    alone = shutil.copytree(run / "bundle", tmp_path / "alone")
    for bundle, word in ((run / "bundle", "was"), (alone, "may have been")):
        found = evaluate(bundle, trained[0], part="val", quiet=True).figures["calibration"]
        assert f"{word} fitted on these photos, so 5-fold cross-fitted" in found["judged"]


def test_other_validation_photos_judge_the_temperature_directly(run, tmp_path, make_photos):
    counts = {"train/10": 2, "train/2": 2, "train/cat": 2, "val/10": 3, "val/2": 3, "val/cat": 3}
    others = make_photos(tmp_path / "others", counts, seed=500_000)
    found = evaluate(run, others, part="val", quiet=True).figures["calibration"]
    assert found["judged"] == "on the val photos, with the temperature fitted on the run's validation photos"


def test_a_validation_photo_in_test_is_noticed_and_calibration_is_not_judged_by_its_own_fit(trained, run, tmp_path):
    shutil.copytree(trained[0], tmp_path / "photos")
    shutil.copy(tmp_path / "photos/val/cat/000.png", tmp_path / "photos/test/cat/copy.png")
    found = evaluate(run, tmp_path / "photos", part="test", quiet=True)
    assert any(text.startswith("1 of these photos are also in validation") for text in found.remarks)
    assert (
        "the temperature was fitted on these photos, so 5-fold cross-fitted" in found.figures["calibration"]["judged"]
    )


def test_a_bundle_of_an_earlier_version_is_evaluated_as_not_calibrated(trained, run):
    data = model_json(run)
    del data["temperature"], data["calibration"]
    del data["description_sha256"]
    (run / "bundle/model.json").write_text(json.dumps(data))
    found = evaluate(run, trained[0], part="test", quiet=True).figures["calibration"]
    assert found["temperature"] == 1 and found["judged"].startswith("not calibrated")
    assert found["log_loss_before"] == found["log_loss_after"]


def test_predict_writes_calibrated_confidences_and_says_unsure(trained, run, tmp_path):
    photos, target = trained[0] / "val", tmp_path / "p.csv"
    write_temperature(run / "bundle", 4.0, 12, None)
    (tmp_path / "broken.png").write_bytes(b"no photo")
    predict(run, [photos], target, quiet=True)
    plain = list(csv.DictReader(target.read_text().splitlines()))
    threshold = sorted(float(row["confidence"]) for row in plain)[6] + 1e-6
    found = predict(run, [photos, tmp_path / "broken.png"], target, unsure_below=threshold, quiet=True)
    *rows, broken = csv.DictReader(target.read_text().splitlines())
    assert found.unsure == sum(row["status"] == "unsure" for row in rows) == 7 and len(found.failed) == 1
    assert broken["status"].startswith("failed: ")
    assert all((row["status"] == "unsure") == (float(row["confidence"]) < threshold) for row in rows)
    assert [(row["label"], row["confidence"]) for row in rows] == [(row["label"], row["confidence"]) for row in plain]
    write_temperature(run / "bundle", 1.0, 12, None)
    predict(run, [photos], target, quiet=True)
    surer = list(csv.DictReader(target.read_text().splitlines()))
    assert [row["label"] for row in surer] == [row["label"] for row in plain]
    assert all(float(a["confidence"]) > float(b["confidence"]) for a, b in zip(surer, plain, strict=True))


def test_a_threshold_out_of_range_or_in_a_submission_is_an_error(trained, tmp_path):
    with pytest.raises(UsageError) as error:
        predict(trained[1].path, [trained[0]], tmp_path / "p.csv", format="submission", unsure_below=1.5)
    assert "unsure_below 1.5: must be above 0 and at most 1" in str(error.value)
    assert "unsure_below: format submission has no status" in str(error.value)


def test_the_screens_say_macro_accuracy_with_its_interval_and_what_chose(trained, run, capsys):
    from fieldguide.commands.terminal.screen import Screen
    from fieldguide.commands.trial.result import report_result

    evaluate(run, trained[0], part="test")
    shown = capsys.readouterr().out
    assert "macro accuracy" in shown and shown.count("(95 %: ") == 2 and "calibration error" in shown
    report_result(RunFolder(run), trained[1].result, Screen())
    shown = capsys.readouterr().out
    assert "chosen on these photos" in shown and shown.count("(95 %: ") == 2 and "cross-fitted" in shown
