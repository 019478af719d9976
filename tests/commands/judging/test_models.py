"""Several runs that predict and are evaluated together, held against the rules of each."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fieldguide import UsageError, evaluate, load, predict
from fieldguide.cli import app
from fieldguide.commands.judging.models import (
    _demand_different,
    load_runs,
    looks_like_run,
    runs_and_images,
    runs_and_photos,
)
from fieldguide.data.split.partition import read_split, write_split
from fieldguide.model.bundle import write_temperature
from tests.commands.by_the_report import train


@pytest.fixture(scope="module")
def pair(trained, tmp_path_factory, small):
    """(photos, run, run) of other seeds and sizes; not to be changed."""
    photos, first = trained
    settings = [*small, "training.seed=1", "data.image_size_px=40", "data.test_flips=horizontal"]
    second = train(photos, output=tmp_path_factory.mktemp("pair") / "second", overrides=settings, quiet=True)
    write_temperature(second.path / "bundle", 20.0, 9, None)  # both are so sure that they would hardly differ
    return photos, first.path, second.path


@pytest.fixture
def copies(pair, tmp_path):
    """The same two runs, which may be changed."""
    return pair[0], *(Path(shutil.copytree(path, tmp_path / name)) for path, name in zip(pair[1:], "ab", strict=True))


def with_rules(run, **rules):
    """Puts other rules into a run's recipe."""
    text = (run / "recipe.yaml").read_text()
    start = text.index("rules:")
    (run / "recipe.yaml").write_text(text[:start] + "rules: " + json.dumps(rules) + "\n")


def parameters_of(run):
    return json.loads((run / "result.json").read_text())["parameters"]["total"]


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_are_the_mean_of_calibrated_probabilities(pair, tmp_path, capsys):
    photos, one, other = pair
    done = predict([one, other], [photos / "test"], tmp_path / "p.csv", top=3, engine="plain")
    assert done.images == 9 and done.broken_rules == () and "with the mean of 2 runs" in capsys.readouterr().out
    files = sorted((photos / "test").rglob("*.png"))
    of_members = [load(run).predict_proba(files) for run in (one, other)]
    expected, classes = (of_members[0] + of_members[1]) / 2, load(one).classes
    assert not np.allclose(of_members[0], of_members[1], atol=1e-3)
    for row, wanted in zip(rows_of(tmp_path / "p.csv"), expected, strict=True):
        shares = {row[f"label{end}"]: float(row[f"confidence{end}"]) for end in ("", "_2", "_3")}
        np.testing.assert_allclose([shares[name] for name in classes], wanted, atol=2e-6)


def test_an_evaluation_judges_what_would_be_predicted(copies, tmp_path):
    photos, one, other = copies
    before = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    found = evaluate([one, other], photos, json_file=tmp_path / "f.json", quiet=True)
    predict([one, other], [photos / "test"], tmp_path / "p.csv", engine="plain", quiet=True)
    right = [row["label"] == row["image"].partition("/")[0] for row in rows_of(tmp_path / "p.csv")]
    assert found.part == "test" and found.figures["accuracy"] == pytest.approx(np.mean(right))
    assert found.figures["ensemble"]["runs"] == [str(one), str(other)]
    assert found.figures["ensemble"]["rules"]["parameters"] == parameters_of(one) + parameters_of(other)
    assert found.figures["calibration"]["judged"].endswith("the mean of calibrated members")  # fitted on none of these
    assert json.loads((tmp_path / "f.json").read_text()) == found.figures
    assert any("are not written into its runs" in text for text in found.remarks)
    after = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    assert after == [{**result, "test_evaluations": 1} for result in before] and after[0]["test"] is None


def test_validation_is_that_of_all_runs(copies, capsys):
    photos, one, other = copies
    found = evaluate([one, other], photos, part="val")
    assert found.figures["images"] == 12 and any("the epoch was chosen on these" in text for text in found.remarks)
    judged = "a member's temperature was fitted on some of these photos, so this is optimistic"
    assert judged in found.figures["calibration"]["judged"] and judged in " ".join(capsys.readouterr().out.split())
    split = read_split(other / "split.csv")
    write_split(other / "split.csv", _swapped(split))
    assert evaluate([one, other], photos, part="val", quiet=True).figures["images"] == 12  # the folder has its own
    with pytest.raises(UsageError, match="the runs have different splits"):
        evaluate([one, other], photos, part="train", quiet=True)


def test_a_bundle_in_its_run_has_the_runs_split_and_counts_there(copies):
    photos, one, other = copies
    found = evaluate([one / "bundle", other], photos, part="train", quiet=True)  # not: trained on different splits
    assert found.figures["images"] == 37
    evaluate([one / "bundle", other], photos, quiet=True)
    evaluate(other, photos, quiet=True)
    results = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    assert [result["test_evaluations"] for result in results] == [1, 2]
    assert results[0]["test"] is None and results[1]["test"]["images"] == 9


def test_one_run_is_loaded_as_ever_and_may_stand_in_a_list(pair, tmp_path):
    photos, one, _ = pair
    predict(one, [photos / "test"], tmp_path / "a.csv", engine="plain", quiet=True)
    predict([one], [photos / "test"], tmp_path / "b.csv", engine="plain", quiet=True)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert load_runs(one, "cpu", "plain").described() == {}
    with pytest.raises(UsageError, match="allow_broken_rules: is only for several runs"):
        load_runs(one, "cpu", "plain", allow_broken_rules=True)


def test_the_parameters_of_all_runs_count_against_the_strictest_rule(copies, tmp_path, capsys):
    photos, one, other = copies
    count = parameters_of(one) + parameters_of(other)
    with_rules(one, max_parameters=count + 1)
    with_rules(other, max_parameters=10**9)
    assert predict([one, other], [photos / "test"], tmp_path / "p.csv", quiet=True).broken_rules == ()
    with_rules(one, max_parameters=count)
    each = f"{parameters_of(one):,} + {parameters_of(other):,}"
    for act in (predict, evaluate):
        with pytest.raises(UsageError) as error:
            act([one, other], photos, quiet=True)
        assert f"{count:,} parameters in 2 runs ({each}), but the rules of {one} allow fewer than {count:,}" in str(
            error.value
        )
        assert "allow_broken_rules" in str(error.value)
    done = predict([one, other], [photos / "test"], tmp_path / "p.csv", allow_broken_rules=True)
    assert len(done.broken_rules) == 1 and "rule broken, allowed by allow_broken_rules" in (
        capsys.readouterr().out.replace("\n", " ")
    )
    judged = evaluate([one, other], photos, allow_broken_rules=True, quiet=True)
    assert not judged.figures["ensemble"]["rules"]["kept"]
    assert any("rules.max_parameters" in remark for remark in judged.remarks)


def test_the_bundle_in_a_run_keeps_the_runs_rules_and_one_without_its_run_is_told(copies, tmp_path):
    _, one, other = copies
    with_rules(one, max_parameters=10)
    with pytest.raises(UsageError, match=r"rules\.max_parameters"):
        load_runs([one / "bundle", other], "cpu", "plain")
    shutil.copytree(one / "bundle", tmp_path / "elsewhere")
    told = load_runs([tmp_path / "elsewhere", other], "cpu", "plain").sentences()
    assert f"{tmp_path / 'elsewhere'}: a bundle without its run, so its own rules are unknown" in told


def test_photos_that_a_run_began_from_are_told_where_another_allows_none_but_its_folders(copies):
    _, one, other = copies
    with_rules(one, external_data="none")
    with_rules(other, max_parameters=10**9)
    assert load_runs([one, other], "cpu", "plain").sentences() == []
    for line in ("f" * 64, "unknown: elsewhere"):
        (other / "seen_before.txt").write_text(line + "\n")
        (told,) = load_runs([one, other], "cpu", "plain").sentences()
        assert told.startswith(f"rules.external_data: {one} allows none, but {other} may have been trained on photos")


def test_the_same_model_twice_and_other_classes_are_refused(copies, tmp_path, make_photos, small):
    photos, one, other = copies
    with pytest.raises(UsageError, match="is the same model as"):
        load_runs([one, other, one / "bundle"], "cpu", "plain")
    with pytest.raises(UsageError, match="a: is the same model as a; leave one of them out"):
        _demand_different([one, one], ["a"] * 2)  # also where both names are one object
    data = json.loads((other / "bundle/model.json").read_text())
    data["classes"] = ["10", "2", "dog"]
    del data["description_sha256"]
    (other / "bundle/model.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"1 of its 3 classes are not in ") as error:
        predict([one, other], [photos / "test"], tmp_path / "p.csv", quiet=True)
    assert "dog" in str(error.value) and "cat" in str(error.value) and not (tmp_path / "p.csv").exists()


def test_runs_come_first_and_photos_after_them(pair, tmp_path):
    photos, one, other = pair
    assert runs_and_images([one, other / "bundle", photos, one / "x.jpg"]) == (
        [one, other / "bundle"],
        [photos, one / "x.jpg"],
    )
    assert runs_and_images([tmp_path / "nowhere", photos]) == ([tmp_path / "nowhere"], [photos])
    with pytest.raises(UsageError, match="is a run after"):
        runs_and_images([one, photos, other])
    with pytest.raises(UsageError, match="IMAGES are missing"):
        runs_and_images([one, other])
    assert runs_and_photos([one, other, photos]) == ([one, other], photos)
    for paths in ([one], [one, other]):
        with pytest.raises(UsageError, match="PHOTOS is missing"):
            runs_and_photos(paths)
    assert looks_like_run(one) and looks_like_run(one / "bundle") and not looks_like_run(photos)


def test_a_name_that_the_system_does_not_take_is_told_and_no_traceback(pair, tmp_path, monkeypatch):
    photos, one, _ = pair
    long = tmp_path / ("x" * 300)
    assert not looks_like_run(long)
    for call in (lambda: evaluate(long, photos), lambda: evaluate([one, long], photos), lambda: load(long)):
        with pytest.raises(UsageError, match=f"{long}: cannot be read \\(File name too long\\)"):
            call()
    with pytest.raises(UsageError, match="File name too long"):
        predict(*runs_and_images([one, long]), tmp_path / "p.csv", quiet=True)

    def closed(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", closed)
    assert not looks_like_run(one)
    with pytest.raises(UsageError, match=f"{one}: cannot be read \\(Permission denied\\)"):
        load(one)


def test_the_command_line_takes_several_runs(copies, tmp_path):
    from typer.testing import CliRunner

    photos, one, other = copies
    arguments = ["predict", one, other, photos / "test", "-o", tmp_path / "p.csv", "--engine", "plain"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0 and len(rows_of(tmp_path / "p.csv")) == 9
    done = CliRunner().invoke(app, list(map(str, ["evaluate", one, other, photos])))
    assert done.exit_code == 0 and "test accuracy" in done.output


def _swapped(split):
    """The same rows with two photos of one class changing places between training and validation."""
    from dataclasses import replace

    train_row, val_row = (next(row for row in split.rows if row.part == part) for part in ("train", "val"))
    parts = {train_row.file: "val", val_row.file: "train"}
    return replace(split, rows=tuple(replace(row, part=parts.get(row.file, row.part)) for row in split.rows))
