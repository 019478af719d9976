import csv
import errno
import json
import shutil
import tempfile

import pytest

from fieldguide import UsageError, compare, experiment
from fieldguide.commands import experiment as command
from fieldguide.commands import trials
from fieldguide.commands.trial import carry_out as trial
from fieldguide.commands.trial.carry_out import Run
from fieldguide.commands.trial.seeds import means_of_seeds
from fieldguide.errors import TrainingError
from fieldguide.recipe.load import preset_text
from fieldguide.run_folder import RunFolder

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
    real = trials.go_on
    monkeypatch.setattr(
        trials, "go_on", lambda *all, **named: trained.append(all[0].recipe_name) or real(*all, **named)
    )
    monkeypatch.setattr(trials, "run_trial", lambda *_, **__: pytest.fail("a trial began again"))
    again = experiment(photos, RECIPES, tmp_path / "again", overrides=small, quiet=True)
    assert trained == ["resnet34-sgd"] and not (tmp_path / "again/resnet34-sgd.unfinished-1").exists()
    assert [row["validation_accuracy"] for row in again.rows] == [row["validation_accuracy"] for row in found.rows]


def test_changed_photos_or_recipes_are_noticed(done, small, tmp_path):
    photos, folder, _ = done
    with pytest.raises(UsageError, match="was trained with another recipe"):
        experiment(photos, RECIPES, folder, overrides=(*small, "training.learning_rate=0.1"), quiet=True)
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/train/2/000.png").unlink()
    with pytest.raises(UsageError, match="photos or split changed since this experiment began"):
        experiment(tmp_path / "photos", RECIPES, folder, overrides=small, quiet=True)


def test_where_the_test_photos_changed_the_trials_are_evaluated_on_them_again(done, small, tmp_path, capsys):
    folder, photos = shutil.copytree(done[1], tmp_path / "table"), shutil.copytree(done[0], tmp_path / "photos")
    (photos / "test/2/000.png").unlink()
    results = [folder / name / "result.json" for name in RECIPES]
    assert [row["test_images"] for row in experiment(photos, RECIPES, folder, overrides=small).rows] == [8, 8]
    assert capsys.readouterr().out.count("the test photos have changed; evaluating again") == 2
    assert [json.loads(path.read_text())["test_evaluations"] for path in results] == [2, 2]
    experiment(photos, RECIPES, folder, overrides=small, quiet=True)
    assert [json.loads(path.read_text())["test_evaluations"] for path in results] == [2, 2]
    result = json.loads(results[0].read_text())
    del result["test"]["photos_sha256"]  # as an earlier version leaves it
    results[0].write_text(json.dumps(result))
    shutil.copy(photos / "test/2/001.png", photos / "test/2/another.png")
    assert [row["test_images"] for row in experiment(photos, RECIPES, folder, overrides=small).rows] == [8, 9]
    assert "the test photos of resnet34-adam are unknown" in " ".join(capsys.readouterr().out.split())


def test_a_test_folder_without_photos_is_none(done, small, tmp_path):
    folder, photos = shutil.copytree(done[1], tmp_path / "table"), shutil.copytree(done[0], tmp_path / "photos")
    for path in (photos / "test").rglob("*.png"):
        path.rename(path.with_suffix(".xyz"))
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
    assert "is not a finished run" in str(error.value) and "no such run" in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("passes", [0, 9])  # it goes wrong in the first epoch, and in the second
def test_a_trial_whose_loss_is_not_finite_is_told_and_the_others_are_trained(
    trained, small, tmp_path, monkeypatch, capsys, passes
):
    real, loops = trial.train_loop, []

    def poisoning(model, *arguments):
        loops.append(1)
        done = []

        def poison(module, inputs):
            done.append(1)
            is_bad = len(loops) == 2 and module.training and len(done) > passes
            return (inputs[0] * float("nan"),) if is_bad else None

        model.register_forward_pre_hook(poison)
        return real(model, *arguments)

    monkeypatch.setattr(trial, "train_loop", poisoning)
    (tmp_path / "third.yaml").write_text(preset_text("resnet34-adam"))
    recipes, folder = [*RECIPES, tmp_path / "third.yaml"], tmp_path / "table"
    found = experiment(trained[0], recipes, folder, overrides=small)
    assert found.exit_code == 1 and [row["method"] for row in found.rows] == ["resnet34-adam", "third"]
    told = "resnet34-sgd is not in the table, because it did not finish: the loss is not finite in epoch"
    assert told in (folder / "table.md").read_text() and told in (folder / "table.json").read_text()
    assert "the experiment continues without it" in capsys.readouterr().out

    for name in ("run_trial", "go_on"):
        monkeypatch.setattr(trials, name, lambda *_, **__: pytest.fail("tried again"))
    again = experiment(trained[0], recipes, folder, overrides=small)
    assert again.exit_code == 1 and again.rows == found.rows and told in capsys.readouterr().out
    with pytest.raises(UsageError, match="was trained with another recipe"):
        experiment(trained[0], ["resnet34-sgd"], folder, overrides=(*small, "training.learning_rate=0.1"), quiet=True)
    alone = experiment(trained[0], ["resnet34-sgd"], folder, overrides=small)
    assert (alone.exit_code, alone.rows) == (1, ()) and "so there is no table" in capsys.readouterr().out


def test_a_photo_that_went_away_is_no_loss_that_would_come_again(trained, tmp_path, small, monkeypatch):
    def lose(*arguments, **options):
        raise TrainingError("train/a.png does not exist; it was readable when the training began")

    monkeypatch.setattr(trials, "run_trial", lose)
    with pytest.raises(TrainingError, match="does not exist"):
        experiment(trained[0], ["resnet34-sgd"], tmp_path / "e", overrides=small, quiet=True)
    assert not RunFolder(tmp_path / "e" / "resnet34-sgd").failed.exists()


def test_a_mean_over_seeds_says_how_many_came_to_nothing(done):
    _, folder, found = done
    names = dict(zip(("x-seed0", "x-seed1"), RECIPES, strict=True))
    runs = {key: Run(folder / name, RunFolder(folder / name).read_result()) for key, name in names.items()}
    rows = [{**row, "method": key} for key, row in zip(runs, found.rows, strict=True)]
    recipe_of = dict.fromkeys((*runs, "x-seed2"), "x")
    (mean,), (told,) = means_of_seeds(rows, runs, ["x-seed2"], recipe_of)
    assert mean["method"] == "x, mean of 2 seeds" and told.startswith(
        "x, mean of 2 seeds: these trainings differ in more than the seed"
    )
    assert "1 of 3 failed with a loss that is not finite, and are left out" in told
    one = {"x-seed0": runs["x-seed0"]}
    assert means_of_seeds(rows[:1], one, ["x-seed1", "x-seed2"], recipe_of) == ([], [])


@pytest.mark.parametrize("kind", ["a person's", "a run's"])
def test_a_folder_that_is_no_experiments_is_refused_and_left_as_it_is(trained, small, tmp_path, kind):
    folder = tmp_path / "mine"
    if kind == "a run's":
        shutil.copytree(trained[1].path, folder)
    else:
        folder.mkdir()
        (folder / "table.csv").write_text("my own")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="and nothing is overwritten; choose another folder, or move this one away"):
        experiment(trained[0], RECIPES, folder, overrides=small, quiet=True)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_cannot_be_written_is_told_before_photos_are_looked_at(done, small, tmp_path, monkeypatch):
    photos, folder, _ = done

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", "x")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr(command, "prepare", lambda *_, **__: pytest.fail("looked at photos"))
    (tmp_path / "empty").mkdir()
    for place in (folder, tmp_path / "empty"):
        with pytest.raises(UsageError, match=r"cannot be written \(Read-only file system\)"):
            experiment(photos, RECIPES, place, overrides=small, quiet=True)
