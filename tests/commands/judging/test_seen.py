"""What an earlier run was trained on never validates a training that starts from its weights."""

import shutil

import pytest

from fieldguide import PhotosError, UsageError, evaluate, experiment, resume
from fieldguide.commands.judging.seen import seen_by_weights
from fieldguide.commands.judging.seen_before import read_before
from fieldguide.data.split.partition import read_split
from fieldguide.run_folder import RunFolder
from tests.commands.by_the_report import train

SHORT = ("training.phases=[{augmentation: none, max_epochs: 1}]", "training.rounds=0")


def hashes(run, *parts):
    return {row.content_hash for part in parts for row in read_split(run.path / "split.csv").part(part)}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """(photos without val/, a run on them, settings without weights)"""
    from tests.commands.conftest import SMALL
    from tests.conftest import write_photo

    root = tmp_path_factory.mktemp("seen")
    for place, name in enumerate(("ash", "oak")):
        for number in range(12):
            write_photo(root / "photos" / name / f"{number:03d}.png", place + 1, 100 * place + number)
    settings = (*(setting for setting in SMALL if not setting.startswith("model.weights")), *SHORT)
    run = train(root / "photos", output=root / "a", overrides=settings, weights="none", quiet=True)
    return root / "photos", run, settings


def test_another_seed_sets_apart_only_what_the_run_before_was_not_trained_on(first, tmp_path, capsys):
    photos, run, settings = first
    again = train(photos, output=tmp_path / "b", overrides=(*settings, "training.seed=1"), weights=run.path / "bundle")
    assert hashes(again, "val") == hashes(run, "val")
    shown = " ".join(capsys.readouterr().out.split())
    assert "20 photos stay in training, because" in shown and "was trained on them" in shown
    assert read_before(RunFolder(again.path)).contents == hashes(run, "train")
    assert not RunFolder(run.path).seen_before.exists()


def test_a_photo_more_a_class_may_validate_and_what_was_trained_on_may_not(first, tmp_path, make_photos):
    photos, run, settings = first
    grown = shutil.copytree(photos, tmp_path / "photos")
    make_photos(tmp_path / "new", {"ash": 3, "oak": 3}, seed=5_000)
    for name in ("ash", "oak"):
        for file in (tmp_path / "new" / name).iterdir():
            shutil.copy(file, grown / name / f"new{file.name}")
    again = train(grown, output=tmp_path / "b", overrides=settings, weights=run.path, quiet=True)
    assert not hashes(again, "val") & hashes(run, "train") and len(hashes(again, "val")) == 4


def test_the_run_before_the_run_before_counts_too(first, tmp_path):
    photos, run, settings = first
    second = train(photos, output=tmp_path / "b", overrides=settings, weights=run.path, quiet=True)
    weights = str(shutil.move(second.path, tmp_path / "moved") / "bundle" / "model.safetensors")
    seen = seen_by_weights([weights, "hub", "none"])
    assert seen.by == dict.fromkeys(hashes(run, "train"), weights) and seen.remarks == ()


def test_evaluate_tells_photos_that_the_run_before_was_trained_on(first, tmp_path):
    photos, run, settings = first
    others = shutil.copytree(photos, tmp_path / "photos")
    known = {row.file for row in read_split(run.path / "split.csv").part("train")}
    for file in sorted(others.glob("*/*.png")):
        if file.relative_to(others).as_posix() in known and file.stem > "005":
            file.unlink()  # so that the second run is not trained on it
    free = (*settings, "rules.external_data=any")  # it is of photos that are no more in the folder
    second = train(others, output=tmp_path / "b", overrides=free, weights=run.path, quiet=True)
    shutil.copytree(others, tmp_path / "new" / "train")
    shutil.copytree(photos, tmp_path / "new" / "test")
    told = evaluate(second.path, tmp_path / "new", quiet=True).remarks
    (trained,) = (remark for remark in told if "the model was trained on" in remark)
    assert trained.startswith("the model was trained on 22 of these photos")  # 20 by the first, and 2 that validated it
    assert "known to the run of its first weights" in trained


def test_a_folder_of_validation_photos_that_the_run_before_was_trained_on_is_a_leak(first, tmp_path):
    photos, run, settings = first
    trained_on = {row.file for row in read_split(run.path / "split.csv").part("train")}
    for name in ("ash", "oak"):
        (tmp_path / "photos" / "train" / name).mkdir(parents=True)
        (tmp_path / "photos" / "val" / name).mkdir(parents=True)
        files = sorted((photos / name).iterdir())
        known = next(file for file in files if f"{name}/{file.name}" in trained_on)
        new = next(file for file in files if f"{name}/{file.name}" not in trained_on)
        for file in files:
            part = "val" if file in (known, new) else "train"
            shutil.copy(file, tmp_path / "photos" / part / name / file.name)
    arguments = {"weights": run.path, "quiet": True}
    with pytest.raises(PhotosError, match=r"model.weights was trained on 2 photos of val or test(.|\n)*data.leaks"):
        train(tmp_path / "photos", output=tmp_path / "b", overrides=settings, **arguments)
    drop = train(tmp_path / "photos", output=tmp_path / "c", overrides=(*settings, "data.leaks=drop"), **arguments)
    assert len(hashes(drop, "val")) == 2 and len(hashes(drop, "excluded")) == 2
    (reason,) = {row.reason for row in read_split(drop.path / "split.csv").part("excluded")}
    assert reason == f"trained on by {run.path} (model.weights)"
    allow = train(tmp_path / "photos", output=tmp_path / "d", overrides=(*settings, "data.leaks=allow"), **arguments)
    assert len(hashes(allow, "val")) == 4
    assert any(
        "model.weights was trained on 2 photos of val or test, which data.leaks allows" in said
        for said in allow.result["remarks"]
    )


def test_folds_from_weights_that_saw_their_photos_are_refused(first, tmp_path):
    photos, run, settings = first
    folds = (*settings, "split.folds=2")
    with pytest.raises(PhotosError, match=r"model.weights was trained on 20 photos that split.folds would hold out"):
        train(photos, output=tmp_path / "b", overrides=folds, weights=run.path, quiet=True)
    assert not (tmp_path / "b").exists()
    allowed = train(photos, output=tmp_path / "c", overrides=(*folds, "data.leaks=allow"), weights=run.path, quiet=True)
    assert any(
        "which data.leaks allows: the accuracy of the folds is too high" in remark
        for remark in allowed.result["remarks"]
    )


def test_a_bundle_that_left_its_run_is_told(first, tmp_path):
    _, run, _ = first
    shutil.copytree(run.path / "bundle", tmp_path / "model")
    seen = seen_by_weights([str(tmp_path / "model")])
    assert seen.by == {} and "bundle without its run: training photos unknown" in seen.remarks[0].sentence


def test_weights_of_other_photos_are_refused_where_the_rules_allow_no_external_data(first, tmp_path, make_photos):
    photos, run, settings = first
    others = make_photos(tmp_path / "photos", {"ash": 6, "oak": 6}, seed=7_000)
    with pytest.raises(UsageError, match=r"rules.external_data: .*/a was trained on 20 photos outside this folder"):
        train(others, output=tmp_path / "b", overrides=settings, weights=run.path, quiet=True)
    with pytest.raises(UsageError, match=r"rules.pretraining: .*/a was trained on 20 photos outside this folder"):
        stricter = (*settings, "rules.external_data=any", "rules.pretraining=imagenet-1k")
        train(others, output=tmp_path / "b", overrides=stricter, weights=run.path, quiet=True)
    assert not (tmp_path / "b").exists()
    same = train(photos, output=tmp_path / "c", overrides=settings, weights=run.path, quiet=True)
    assert same.result["rules"]["kept"] and same.result["rules"]["unverified"] == []


def test_a_bundle_that_left_its_run_is_unverified_in_every_run_that_follows(first, tmp_path, capsys):
    photos, run, settings = first
    shutil.copytree(run.path / "bundle", tmp_path / "model")
    second = train(photos, output=tmp_path / "b", overrides=settings, weights=tmp_path / "model")
    told = f"rules.external_data: cannot verify which photos {tmp_path / 'model'} was trained on; check it yourself"
    assert second.result["rules"]["unverified"] == [told] and told in " ".join(capsys.readouterr().out.split())
    third = train(photos, output=tmp_path / "c", overrides=settings, weights=second.path, quiet=True)
    assert third.result["rules"]["unverified"] == [told]
    assert read_before(RunFolder(third.path)).contents == hashes(second, "train")


def test_a_trial_has_nothing_to_do_with_the_weights_of_another_trial(first, tmp_path, make_photos):
    _, run, settings = first
    others = make_photos(tmp_path / "photos", {"ash": 6, "oak": 6}, seed=7_000)
    for name, weights, data in (("alone", "none", "none"), ("further", run.path, "any")):
        text = f"model: {{weights: {weights}}}\nrules: {{external_data: {data}}}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    recipes = [tmp_path / "alone.yaml", tmp_path / "further.yaml"]
    overrides = [setting for setting in settings if not setting.startswith("rules")]
    found = experiment(others, recipes, tmp_path / "t", overrides=overrides, quiet=True)
    assert found.exit_code == 0 and len(found.rows) == 2
    seen = [read_before(RunFolder(tmp_path / "t" / name)).contents for name in ("alone", "further")]
    assert seen == [frozenset(), hashes(run, "train")]


def test_a_run_that_goes_on_does_not_need_the_run_before(first, tmp_path):
    photos, run, settings = first
    copy = shutil.copytree(run.path, tmp_path / "a")
    again = train(photos, output=tmp_path / "b", overrides=settings, weights=copy, quiet=True)
    shutil.rmtree(copy)
    longer = resume(again.path, overrides=("training.more_epochs=1",), quiet=True)
    assert longer.result["epochs"] == again.result["epochs"] + 1
    assert read_before(RunFolder(again.path)).contents == hashes(run, "train")


def test_an_experiment_that_leaves_test_photos_out_judges_them_once(first, tmp_path):
    photos, run, settings = first
    known = {row.file for row in read_split(run.path / "split.csv").part("train")}
    for file in sorted(photos.glob("*/*.png")):
        name = file.relative_to(photos).as_posix()
        part = "test" if name in known and file.stem in ("000", "001", "002") else "train"
        (tmp_path / "photos" / part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "photos" / part / name)
    overrides = (*settings, "data.leaks=drop")
    for _ in range(2):
        experiment(tmp_path / "photos", ["resnet34-adam"], tmp_path / "t", overrides=overrides, weights=run.path)
    result = RunFolder(tmp_path / "t" / "resnet34-adam").read_result()
    assert result["split"]["excluded"] > 0 and result["test_evaluations"] == 1
