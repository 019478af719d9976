"""An experiment on a flat test folder: predictions, submissions, and the scores of a leaderboard."""

import csv
import io
import json
import shutil
import zipfile

import pytest
from typer.testing import CliRunner

from fieldguide import UsageError, experiment
from fieldguide.cli import app
from fieldguide.commands import submissions

RECIPES = ["resnet34-adam", "resnet34-sgd"]


@pytest.fixture(scope="module")
def flat(trained, small, tmp_path_factory):
    """(photos with a flat test folder, folder of the experiment, overrides)."""
    root = tmp_path_factory.mktemp("flat")
    for part in ("train", "val"):
        shutil.copytree(trained[0] / part, root / "photos" / part)
    (root / "photos/test").mkdir()
    for number, photo in enumerate(sorted((trained[0] / "test").rglob("*.png"))):
        shutil.copy(photo, root / "photos/test" / f"{number:04d}.png")
    quick = (*small, "training.phases.0.max_epochs=1", "training.rounds=0")
    experiment(root / "photos", RECIPES, root / "table", overrides=quick, quiet=True)
    return root / "photos", root / "table", quick


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("name", RECIPES)
def test_each_method_gets_its_predictions_and_a_submission_of_the_same(flat, name):
    _, folder, _ = flat
    predicted = rows_of((folder / f"submissions/{name}.csv").read_text())
    assert len(predicted) == 9 and set(predicted[0]) == {"image", "label", "confidence", "status"}
    with zipfile.ZipFile(folder / f"submissions/{name}.zip") as archive:
        assert archive.namelist() == ["prediction.csv"]
        submitted = rows_of(archive.read("prediction.csv").decode())
    assert [row["image_name"] for row in submitted] == [f"{number:04d}" for number in range(9)]
    assert [row["pred_label"] for row in submitted] == [row["label"] for row in predicted]
    assert {row["label"] for row in predicted} <= {"10", "2", "cat"}


def test_called_again_nothing_is_predicted_twice_and_scores_are_in_the_table_from_then_on(flat, tmp_path, monkeypatch):
    photos, folder, quick = flat
    shutil.copytree(folder, tmp_path / "table")
    monkeypatch.setattr(submissions, "predict", lambda *_, **__: pytest.fail("predicted again"))
    (tmp_path / "scores.csv").write_text("method,score\nresnet34-adam,0.87\n")
    options = {"overrides": quick, "quiet": True}
    found = experiment(photos, RECIPES, tmp_path / "table", test_scores=tmp_path / "scores.csv", **options)
    assert [row["test_score"] for row in found.rows] == [0.87, None]
    text = (tmp_path / "table/table.md").read_text()
    assert "| 0.870 (leaderboard) |" in text and "leaderboard: scores as given, without interval" in text
    assert [row["test_score"] for row in rows_of((tmp_path / "table/table.csv").read_text())] == ["0.87", ""]
    again = experiment(photos, RECIPES, tmp_path / "table", **options)
    assert [row["test_score"] for row in again.rows] == [0.87, None]


def test_a_score_of_another_model_is_left_out_and_said(flat, tmp_path, capsys):
    photos, folder, quick = flat
    shutil.copytree(folder, tmp_path / "table")
    kept = tmp_path / "table/submissions/kept.json"
    content = json.loads(kept.read_text())
    content["scores"] = {"resnet34-sgd": {"score": 0.5, "weights_sha256": "of another"}}
    kept.write_text(json.dumps(content))
    found = experiment(photos, RECIPES, tmp_path / "table", overrides=quick)
    assert [row["test_score"] for row in found.rows] == [None, None]
    assert "resnet34-sgd: the model has changed, so its score is left out" in " ".join(capsys.readouterr().out.split())


def test_all_mistakes_in_the_scores_are_told_before_anything_is_trained(flat, tmp_path):
    photos, _, _ = flat
    (tmp_path / "scores.csv").write_text("method,score\nresnet34-adm,0.8\nresnet34-sgd,87\nresnet34-adam,x\n")
    flags = [part for recipe in RECIPES for part in ("--recipe", recipe)]
    flags += ["--weights", "none", "--test-scores", str(tmp_path / "scores.csv")]
    shown = CliRunner().invoke(app, ["experiment", str(photos), "-o", str(tmp_path / "new"), *flags])
    words = " ".join(shown.output.split())
    assert shown.exit_code == 2 and not (tmp_path / "new").exists()
    assert "line 2: there is no method resnet34-adm; the methods are resnet34-adam, resnet34-sgd" in words
    assert "line 3: the score 87 is not between 0 and 1" in words and "line 4: the score x is not" in words
    (tmp_path / "scores.csv").write_text("name,points\n")
    with pytest.raises(UsageError, match="the first line has no method and no score"):
        submissions.read_scores(tmp_path / "scores.csv", RECIPES)
    with pytest.raises(UsageError, match=r"missing\.csv: cannot be read \(No such file"):
        submissions.read_scores(tmp_path / "missing.csv", RECIPES)


def test_a_folder_name_of_ours_is_no_name_of_a_method(flat, tmp_path):
    photos, _, _ = flat
    (tmp_path / "submissions.yaml").write_text("{}")
    with pytest.raises(UsageError, match="submissions is where submissions go; rename the file"):
        experiment(photos, [tmp_path / "submissions.yaml"], tmp_path / "x", weights="none", quiet=True)
