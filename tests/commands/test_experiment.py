import csv
import json
import shutil

import pytest

from fieldguide import UsageError, compare, experiment
from fieldguide.commands import experiment as command

RECIPES = ["resnet34-adam", "resnet34-sgd"]


@pytest.fixture(scope="module")
def done(trained, small, tmp_path_factory):
    """(photos, folder, what experiment gave) for two recipes of the report."""
    folder = tmp_path_factory.mktemp("experiment") / "table"
    return trained[0], folder, experiment(trained[0], RECIPES, folder, overrides=small, quiet=True)


def test_it_ends_in_the_table_of_methods(done):
    _, folder, found = done
    assert [row["method"] for row in found.rows] == RECIPES and [row["optimizer"] for row in found.rows] == [
        "adam",
        "sgd",
    ]
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    for row, name in zip(rows, RECIPES, strict=True):
        result = json.loads((folder / name / "result.json").read_text())
        assert float(row["validation_accuracy"]) == result["validation"]["accuracy"]
        assert float(row["test_accuracy"]) == result["test"]["accuracy"] and result["test_evaluations"] == 1
        assert int(row["parameters"]) == result["parameters"]["total"] and row["test_images"] == "9"
    text = (folder / "table.md").read_text()
    assert text.startswith("| method | backbone | optimiser | parameters |") and "also chose the epoch" in text


def test_all_trials_have_the_same_split_and_seed(done):
    _, folder, _ = done
    results = [json.loads((folder / name / "result.json").read_text()) for name in RECIPES]
    assert results[0]["split"] == results[1]["split"] and results[0]["seed"] == results[1]["seed"]
    assert (folder / RECIPES[0] / "split.csv").read_bytes() == (folder / "split.csv").read_bytes()


def test_called_again_it_trains_only_what_is_missing(done, small, tmp_path, monkeypatch):
    photos, folder, found = done
    shutil.copytree(folder, tmp_path / "again")
    (tmp_path / "again" / "resnet34-sgd" / "result.json").unlink()
    trained = []
    real = command.go_on
    monkeypatch.setattr(command, "go_on", lambda *all: trained.append(all[0].recipe_name) or real(*all))
    monkeypatch.setattr(command, "run_trial", lambda *all: pytest.fail("a trial began again"))
    again = experiment(photos, RECIPES, tmp_path / "again", overrides=small, quiet=True)
    assert trained == ["resnet34-sgd"] and not (tmp_path / "again/resnet34-sgd.unfinished-1").exists()
    assert [row["validation_accuracy"] for row in again.rows] == [row["validation_accuracy"] for row in found.rows]


def test_changed_photos_or_recipes_are_noticed(done, small, tmp_path):
    photos, folder, _ = done
    with pytest.raises(UsageError, match="was trained with another recipe"):
        experiment(photos, RECIPES, folder, overrides=(*small, "training.learning_rate=0.1"), quiet=True)
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/train/2/000.png").unlink()
    with pytest.raises(UsageError, match="the photos or the split have changed since this experiment began"):
        experiment(tmp_path / "photos", RECIPES, folder, overrides=small, quiet=True)


def test_where_the_test_photos_changed_the_trials_are_evaluated_on_them_again(done, small, tmp_path, capsys):
    folder, photos = shutil.copytree(done[1], tmp_path / "table"), shutil.copytree(done[0], tmp_path / "photos")
    (photos / "test/2/000.png").unlink()
    results = [folder / name / "result.json" for name in RECIPES]
    assert [row["test_images"] for row in experiment(photos, RECIPES, folder, overrides=small).rows] == [8, 8]
    assert capsys.readouterr().out.count("the test photos have changed since it was evaluated") == 2
    assert [json.loads(path.read_text())["test_evaluations"] for path in results] == [2, 2]
    experiment(photos, RECIPES, folder, overrides=small, quiet=True)
    assert [json.loads(path.read_text())["test_evaluations"] for path in results] == [2, 2]
    result = json.loads(results[0].read_text())
    del result["test"]["photos_sha256"]  # as an earlier version leaves it
    results[0].write_text(json.dumps(result))
    shutil.copy(photos / "test/2/001.png", photos / "test/2/another.png")
    assert [row["test_images"] for row in experiment(photos, RECIPES, folder, overrides=small).rows] == [8, 9]
    assert "whether the test figures of resnet34-adam are" in " ".join(capsys.readouterr().out.split())


def test_a_test_folder_without_photos_is_none(done, small, tmp_path):
    folder, photos = shutil.copytree(done[1], tmp_path / "table"), shutil.copytree(done[0], tmp_path / "photos")
    for path in (photos / "test").rglob("*.png"):
        path.rename(path.with_suffix(".heic"))
    for name in RECIPES:
        result = json.loads((folder / name / "result.json").read_text())
        (folder / name / "result.json").write_text(json.dumps({**result, "test": None}))
    found = experiment(photos, RECIPES, folder, overrides=small, quiet=True)
    assert [row["test_accuracy"] for row in found.rows] == [None, None]


def test_mistakes_of_all_recipes_come_before_any_training(trained, tmp_path):
    with pytest.raises(UsageError) as error:
        experiment(
            trained[0], ["resnet34-adm", "resnet50-adam"], tmp_path / "x", overrides=["traning.seed=1"], quiet=True
        )
    assert "did you mean resnet34-adam" in str(error.value) and "traning: there is no such field" in str(error.value)
    assert not (tmp_path / "x").exists()


def test_compare_prints_the_same_table_for_runs(done, tmp_path):
    _, folder, found = done
    rows = compare(
        [folder / n for n in RECIPES], csv_file=tmp_path / "t.csv", markdown_file=tmp_path / "t.md", quiet=True
    )
    assert rows == list(found.rows)
    assert (tmp_path / "t.csv").read_text() == (folder / "table.csv").read_text()


def test_compare_refuses_different_splits_and_names_unfinished_runs(done, tmp_path):
    _, folder, _ = done
    shutil.copytree(folder / RECIPES[0], tmp_path / "other")
    result = json.loads((tmp_path / "other/result.json").read_text())
    result["split"]["fingerprint"] = "0" * 64
    (tmp_path / "other/result.json").write_text(json.dumps(result))
    with pytest.raises(UsageError, match="these runs have different splits"):
        compare([folder / RECIPES[0], tmp_path / "other"], quiet=True)
    (tmp_path / "other/result.json").unlink()
    with pytest.raises(UsageError) as error:
        compare([folder / RECIPES[0], tmp_path / "other", tmp_path / "none"], quiet=True)
    assert "is no finished run" in str(error.value) and "there is no such run" in str(error.value)
