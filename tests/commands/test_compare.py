import json
import shutil

import pytest

from fieldguide import UsageError, compare, evaluate, experiment
from fieldguide.evaluation.predictions import Predictions, read_predictions, write_predictions
from fieldguide.run_folder import RunFolder


@pytest.fixture
def runs(trained, tmp_path):
    """Two runs of one split; the second has every photo wrong."""
    for name in ("good", "bad"):
        shutil.copytree(trained[1].path, tmp_path / name)
    path = RunFolder(tmp_path / "bad").predictions
    kept = read_predictions(path)
    write_predictions(path, Predictions(kept.files, (kept.predicted() + 1) % 3, kept.logits, kept.classes))
    good = RunFolder(tmp_path / "good").predictions
    labels = (kept.predicted() + 1) % 3
    logits = 0 * kept.logits
    logits[range(len(labels)), labels] = 1
    write_predictions(good, Predictions(kept.files, labels, logits, kept.classes))
    return [tmp_path / "good", tmp_path / "bad"]


def test_a_single_run_in_place_of_a_list_is_refused_and_not_read_letter_by_letter(runs):
    for single in (runs[0], str(runs[0])):
        with pytest.raises(UsageError, match="compare takes a list of runs; put a single one into"):
            compare(single, quiet=True)


def test_below_the_table_stands_which_run_beats_which(runs, tmp_path, capsys):
    compare(runs, markdown_file=tmp_path / "t.md", json_file=tmp_path / "t.json")
    shown, text = capsys.readouterr().out, (tmp_path / "t.md").read_text()
    sentence = "good beats bad by 100.0 points ("
    assert sentence in shown and text.splitlines()[-1].startswith(f"- {sentence}")
    assert "these photos also chose the epoch and the round" in shown and "which also chose the epoch" in shown
    written = json.loads((tmp_path / "t.json").read_text())
    (pair,) = written["comparisons"]["pairs"]
    assert [row["method"] for row in written["rows"]] == ["good", "bad"] and pair["sentence"] in shown
    assert (pair["a"], pair["b"], pair["only_a"], pair["n"], pair["shown"]) == ("good", "bad", 12, 12, True)


def test_a_run_that_kept_no_predictions_is_still_in_the_table(runs, tmp_path, capsys):
    RunFolder(runs[1]).predictions.unlink()
    rows = compare(runs, markdown_file=tmp_path / "t.md", json_file=tmp_path / "t.json")
    assert len(rows) == 2 and "bad is not compared" in capsys.readouterr().out
    assert json.loads((tmp_path / "t.json").read_text())["comparisons"]["pairs"] == []


def test_a_place_that_cannot_be_written_is_named(runs, tmp_path):
    with pytest.raises(UsageError, match=r"nowhere.*cannot be written"):
        compare(runs, json_file=tmp_path / "nowhere" / "t.json", quiet=True)


def test_a_run_that_was_stopped_is_refused_with_the_command_that_goes_on_with_it(runs, tmp_path):
    stopped = RunFolder(runs[1])
    result = stopped.read_result()
    stopped.write_result(
        result | {"stopped": {"kind": "signal", "signal": "SIGTERM", "text": "interrupted by SIGTERM"}}
    )
    with pytest.raises(UsageError) as error:
        compare(runs, csv_file=tmp_path / "t.csv", quiet=True)
    assert str(error.value) == (
        f"{stopped.path}: is not finished (interrupted by SIGTERM); resume it: fieldguide train --resume {stopped.path}"
    )
    assert not (tmp_path / "t.csv").exists()
    assert result["stopped"] is None
    stopped.write_result(result | {"out_of_time": True})
    assert len(compare(runs, quiet=True)) == 2  # its minutes were its end
    stopped.result.unlink()
    with pytest.raises(UsageError, match=r"is not a finished run .*; resume it: fieldguide train --resume"):
        compare(runs, quiet=True)


def test_test_figures_of_different_photos_are_told_wherever_the_table_stands(runs, trained, tmp_path, capsys):
    photos = shutil.copytree(trained[0], tmp_path / "photos")
    (photos / "test/2/000.png").rename(photos / "test/2/renamed.png")
    for run in runs:
        evaluate(run, trained[0] if run is runs[0] else photos, part="test", quiet=True)
    files = {f"{kind}_file": tmp_path / f"t.{kind}" for kind in ("markdown", "json", "html")}
    assert len({row["test_photos_sha256"] for row in compare(runs, quiet=True)}) == 1  # a name is no content
    (photos / "test/2/renamed.png").rename(photos / "test/cat/renamed.png")
    evaluate(runs[1], photos, part="test", quiet=True)
    compare(runs, **files)
    told = "the test figures are from different photos, so they cannot be compared: good (9) against bad (9)"
    assert told in " ".join(capsys.readouterr().out.split())
    assert all(told in path.read_text() for path in files.values())


@pytest.fixture(scope="module")
def seeded(small, tmp_path_factory):
    """(photos, folder, what experiment gave) for two seeds of one recipe, without validation photos of their own."""
    from tests.conftest import write_photo

    root = tmp_path_factory.mktemp("seeds")
    for hue, name in enumerate(("ash", "beech"), start=1):
        for number in range(12):
            write_photo(root / "photos" / name / f"{number:03d}.png", hue, 100 * hue + number)
    quick = (*small, "training.max_epochs=1", "split.validation_share=0.3", "training.seed=5")
    found = experiment(root / "photos", ["resnet34-adam"], root / "table", seeds=2, overrides=quick, quiet=True)
    return root / "photos", root / "table", found, quick


def test_seeds_train_on_one_split_into_runs_of_their_own(seeded):
    _, folder, _, _ = seeded
    results = [json.loads((folder / f"resnet34-adam-seed{n}" / "result.json").read_text()) for n in (5, 6)]
    assert [result["seed"] for result in results] == [5, 6] and results[0]["split"] == results[1]["split"]
    assert {result["recipe"] for result in results} == {"resnet34-adam"}
    split = (folder / "split.csv").read_bytes()
    assert all((folder / f"resnet34-adam-seed{n}" / "split.csv").read_bytes() == split for n in (5, 6))
    assert results[0]["validation"]["loss"] != results[1]["validation"]["loss"]


def test_the_recipe_of_a_later_seed_keeps_the_split(seeded):
    from fieldguide.commands.terminal.screen import Screen
    from fieldguide.commands.train import prepare
    from fieldguide.data.split.partition import read_split
    from fieldguide.recipe.load import read_recipe

    photos, folder, _, _ = seeded
    recipe = read_recipe(folder / "resnet34-adam-seed6" / "recipe.yaml")
    assert recipe.training.seed == 6 and recipe.split.seed == 5
    assert prepare(photos, recipe, Screen(quiet=True)).split == read_split(folder / "split.csv")


def test_the_table_of_seeds_ends_in_their_mean(seeded):
    _, folder, found, _ = seeded
    *single, mean = found.rows
    assert [row["method"] for row in single] == ["resnet34-adam-seed5", "resnet34-adam-seed6"]
    assert mean["method"] == "resnet34-adam, mean of 2 seeds" and mean["seeds"] == 2
    accuracies = [row["validation_accuracy"] for row in single]
    assert mean["validation_accuracy"] == pytest.approx(sum(accuracies) / 2) and mean["test_accuracy"] is None
    assert "mean of 2 seeds" in (folder / "table.md").read_text()
    written = json.loads((folder / "table.json").read_text())
    assert len(written["rows"]) == 3 and len(written["comparisons"]["pairs"]) == 1


def test_called_again_seeds_are_not_trained_again(seeded, monkeypatch):
    from fieldguide.commands import trials

    photos, folder, found, quick = seeded
    monkeypatch.setattr(trials, "run_trial", lambda *_, **__: pytest.fail("trained again"))
    again = experiment(photos, ["resnet34-adam"], folder, seeds=2, overrides=quick, quiet=True)
    assert again.rows == found.rows


def test_a_mean_over_seeds_says_where_some_were_cut_or_trained_longer(seeded, tmp_path, capsys):
    photos, folder, found, quick = seeded
    copied = shutil.copytree(folder, tmp_path / "table")
    result = json.loads((copied / "resnet34-adam-seed6" / "result.json").read_text())
    for changes, told in (
        ({"out_of_time": True}, "(1 of 2 ran out of time)"),
        ({"out_of_time": True, "more_epochs": [2]}, "(training.more_epochs differ; 1 of 2 ran out of time)"),
    ):
        (copied / "resnet34-adam-seed6" / "result.json").write_text(json.dumps(result | changes))
        again = experiment(photos, ["resnet34-adam"], copied, seeds=2, overrides=quick)
        assert f"these trainings differ in more than the seed {told}" in again.rows[-1]["validation_note"]
        assert f"mean of 2 seeds: these trainings differ in more than the seed {told}" in " ".join(
            capsys.readouterr().out.split()
        )
    assert "differ in more" not in found.rows[-1]["validation_note"]


@pytest.mark.parametrize("seeds", [0, -1, 1_001])
def test_a_number_of_seeds_that_makes_no_sense_is_refused(trained, tmp_path, seeds):
    with pytest.raises(UsageError, match=f"seeds {seeds}: must be from 1 to 1,000"):
        experiment(trained[0], ["resnet34-adam"], tmp_path / "x", seeds=seeds, quiet=True)
    assert not (tmp_path / "x").exists()


def test_a_run_is_not_compared_with_itself(trained):
    from fieldguide import UsageError, compare

    with pytest.raises(UsageError, match="given twice"):
        compare([trained[1].path, f"{trained[1].path}/"], quiet=True)
