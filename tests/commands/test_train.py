import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import fieldguide
from fieldguide import PhotosError, TrainingError, UsageError, assemble, evaluate, load, resume
from fieldguide.commands import train as command
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial import carry_out as trial
from fieldguide.commands.trial import prepare as preparing
from fieldguide.model.classifier import make_on_meta
from fieldguide.recipe.load import read_recipe
from tests.commands.by_the_report import train

PRESETS = {
    "resnet34-adam": (21_284_672, 21_598_628),
    "resnet34-sgd": (21_284_672, 21_598_628),
    "resnet50-adam": (23_508_032, 25_710_756),
    "resnet50-sgd": (23_508_032, 25_710_756),
    "resnetrs101-adam": (61_569_696, 63_772_420),
}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((), []),
        (("training.seed=3",), []),
        (("split.seed=3",), ["split.seed 3 has no effect: the photos of val/ are the validation"]),
        (
            ("split.seed=3", "split.validation_share=0.3"),
            ["split.validation_share 0.3 and split.seed 3 have no effect: the photos of val/ are the validation"],
        ),
    ],
)
def test_settings_of_the_split_that_decide_nothing_beside_a_val_folder_are_told(photos, small, settings, told):
    recipe = assemble.resolved(read_recipe("resnet34-adam", [*small, *settings]))
    remarks = preparing.prepare(photos, recipe, Screen(quiet=True)).sentences
    assert [remark for remark in remarks if "no effect" in remark] == told
    shutil.rmtree(photos / "val")
    remarks = preparing.prepare(photos, recipe, Screen(quiet=True)).sentences
    assert [remark for remark in remarks if "no effect" in remark] == []


def history_without_times(path):
    lines = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


def same_weights(one, other):
    first, second = (load_file(path / "bundle" / "model.safetensors") for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_what_the_readme_says(trained):
    _, run = trained
    names = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert names >= {
        "recipe.yaml", "environment.json", "split.csv", "history.jsonl", "result.json", "bundle/model.safetensors",
        "bundle/model.json", "figures/curves.png", "figures/curves.svg", "figures/01-standard.png",
        "figures/02-strong.png", "figures/03-round-1.png",
    }  # fmt: skip
    with Image.open(run.path / "figures/curves.png") as picture:
        assert picture.width > 800
    assert "<svg" in (run.path / "figures/curves.svg").read_text()[:600]
    assert not list(run.path.rglob(".writing-*"))


def test_the_result_has_its_figures(trained):
    _, run = trained
    result = json.loads((run.path / "result.json").read_text())
    assert result == run.result and result["test"] is None and result["test_evaluations"] == 0
    assert result["recipe"] == "resnet34-adam" and result["backbone"] == "test_resnet" and result["num_classes"] == 3
    counts = result["parameters"]
    weights = load_file(run.path / "bundle/model.safetensors")
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert counts["total"] == counts["backbone"] + counts["head"]
    assert counts["total"] == sum(v.numel() for k, v in weights.items() if not k.endswith(statistics))
    assert result["training"]["images"] == 37 and result["validation"]["images"] == 12
    validation = result["validation"]
    assert validation["accuracy_low"] <= validation["accuracy"] <= validation["accuracy_high"]
    assert result["epochs"] == len(history_without_times(run.path)) and 1 <= result["best_epoch"] <= result["epochs"]
    assert result["seconds"] > 0 and result["images_per_second"] > 0 and result["seed"] == 0
    assert result["rules"]["kept"] and result["rules"]["max_parameters"] == 100_000_000
    assert [stage["name"] for stage in result["stages"]] == ["standard", "strong", "round 1"]
    assert result["split"] | {"fingerprint": ""} == {
        "fingerprint": "",
        "train": 37,
        "val": 12,
        "test": 9,
        "excluded": 0,
    }


def test_the_validation_figure_is_that_of_the_best_epoch(trained):
    _, run = trained
    best = next(line for line in history_without_times(run.path) if line["epoch"] == run.result["best_epoch"])
    losses = [line["validation"]["loss"] for line in history_without_times(run.path)]
    assert best["validation"]["loss"] == min(losses) and best["best"]
    assert run.result["validation"]["accuracy"] == best["validation"]["accuracy"]
    assert run.result["validation"]["loss"] == pytest.approx(best["validation"]["loss"], abs=1e-5)
    assert run.result["validation"]["chose"]["by"] == "validation_loss"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(trained, tmp_path, small):
    photos, run = trained
    again = train(photos, output=tmp_path / "again", overrides=small, quiet=True)
    assert history_without_times(again.path) == history_without_times(run.path) and same_weights(again.path, run.path)
    other = train(photos, output=tmp_path / "other", overrides=(*small, "training.seed=1"), quiet=True)
    assert history_without_times(other.path) != history_without_times(run.path)


@pytest.mark.slow
def test_the_resolved_recipe_trains_again_to_the_same_weights(trained, tmp_path):
    photos, run = trained
    again = train(photos, recipe=run.path / "recipe.yaml", output=tmp_path / "again", quiet=True)
    assert same_weights(again.path, run.path)
    named = {line.strip() for line in (run.path / "recipe.yaml").read_text().splitlines() if line.endswith(": null")}
    assert named == {
        f"{field}: null"
        for field in (
            "backbones", "group_pattern", "group_by", "folds", "max_epochs", "max_minutes", "more_epochs", "momentum",
            "gradient_clip_norm", "warmup_epochs", "cache_side_px", "plan", "views",
            "test_size_px", "test_crop_share", "ema_decay", "soup_candidates", "mix_probability",
            "validation_photos", "bands",
        )
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(trained, tmp_path, small, workers):
    photos, run = trained
    recipe = assemble.resolved(read_recipe("resnet34-adam", small))
    screen = Screen(quiet=True)
    prepared = preparing.prepare(photos, recipe, screen)
    other = command.run_trial("x", recipe, prepared, tmp_path / "run", "cpu", "quiet", workers=workers)
    assert same_weights(other.path, run.path)


@pytest.mark.slow
def test_without_val_a_share_of_each_class_is_set_apart_and_reused(tmp_path, make_photos, small):
    photos = make_photos(tmp_path / "photos", {"ash": 20, "beech": 10, "cedar": 2, "oak": 1})
    run = train(photos, output=tmp_path / "run", overrides=(*small, "split.validation_share=0.2"), quiet=True)
    rows = list(csv.DictReader((run.path / "split.csv").read_text().splitlines()))
    per_class = {
        name: sum(r["class"] == name and r["part"] == "val" for r in rows) for name in ("ash", "beech", "cedar", "oak")
    }
    assert per_class == {"ash": 4, "beech": 2, "cedar": 1, "oak": 0} and len(rows) == 33
    assert all(len(row["content_hash"]) == 64 for row in rows)
    assert any("oak" in remark and "one photo" in remark for remark in run.result["remarks"])
    found = evaluate(run.path, photos, quiet=True)
    assert found.part == "val" and found.figures["images"] == 7
    assert found.figures["accuracy"] == run.result["validation"]["accuracy"]
    assert any("chosen on these photos" in remark for remark in found.remarks)


def test_an_existing_run_is_never_overwritten(trained):
    photos, run = trained
    before = (run.path / "result.json").read_bytes()
    with pytest.raises(UsageError, match="holds a run already, and nothing is overwritten; choose another"):
        train(photos, output=run.path, quiet=True)
    assert (run.path / "result.json").read_bytes() == before


@pytest.mark.slow
def test_a_broken_photo_stops_the_training_unless_the_recipe_excludes_it(photos, tmp_path, small):
    (photos / "train/cat/bad.jpg").write_bytes(b"this is no photo")
    good = (photos / "val/cat/000.png").read_bytes()
    (photos / "val/cat/cut.png").write_bytes(good[: len(good) // 2])
    with pytest.raises(PhotosError) as error:
        train(photos, output=tmp_path / "run", overrides=small, quiet=True)
    assert error.value.exit_code == 1 and "2 photos cannot be read" in str(error.value)
    assert "train/cat/bad.jpg is not an image" in str(error.value) and "val/cat/cut.png is cut off" in str(error.value)
    assert "data.unreadable=exclude" in str(error.value) and not (tmp_path / "run").exists()
    run = train(photos, output=tmp_path / "run", overrides=(*small, "data.unreadable=exclude"), quiet=True)
    rows = csv.DictReader((run.path / "split.csv").read_text().splitlines())
    excluded = {row["file"]: row["reason"] for row in rows if row["part"] == "excluded"}
    assert excluded.keys() == {"train/cat/bad.jpg", "val/cat/cut.png"} and all(excluded.values())
    assert run.result["split"]["excluded"] == 2 and run.result["training"]["images"] == 37
    assert any("2 photos unreadable; excluded" in remark for remark in run.result["remarks"])


def test_a_broken_test_photo_is_told_and_stops_nothing(photos, tmp_path, small):
    (photos / "test/cat/bad.jpg").write_bytes(b"this is no photo")
    run = train(photos, output=tmp_path / "run", overrides=(*small, "training.max_epochs=1"), quiet=True)
    (told,) = [remark for remark in run.result["remarks"] if "not counted" in remark]
    assert told.startswith("1 test photo unreadable; not counted:\n  test/cat/bad.jpg is not an image")
    assert run.result["split"]["test"] == 10 and run.result["split"]["excluded"] == 0
    assert "1 test photo unreadable" in (run.path / "report.html").read_text()


def test_all_mistakes_are_listed_at_once_and_nothing_is_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as error:
        train(
            tmp_path / "nowhere", output=tmp_path / "file" / "run", device="cuda:99", quiet=True,
            overrides=(
                "training.learning_rat=1", "training.momentum=0.9", "training.more_epochs=5", "model.backbone=resnet35"
            ),
        )  # fmt: skip
    text = str(error.value)
    for part in (
        "learning_rat: there is no such field (did you mean learning_rate?)",
        "training.momentum would be ignored, because training.optimizer is adam",
        "training.more_epochs: is for a finished run: fieldguide train --resume RUN",
        "timm has no network 'resnet35' (did you mean",
        "nowhere: there is no such folder",
        "cannot be written",
        "device cuda:99",
    ):
        assert part in text
    assert error.value.exit_code == 2 and {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_missing_folder_is_told_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "look_over", lambda *_, **__: pytest.fail("photos were read"))
    with pytest.raises(UsageError, match="there is no such folder"):
        train(tmp_path / "nowhere", output=tmp_path / "run", overrides=("model.weights=none",), quiet=True)


def test_an_empty_class_is_refused(photos, tmp_path, small):
    (photos / "train" / "dog").mkdir()
    with pytest.raises(PhotosError, match="classes without any photo: dog; add photos or remove"):
        train(photos, output=tmp_path / "run", overrides=small, quiet=True)


@pytest.mark.slow
def test_a_class_missing_in_val_is_listed(photos, tmp_path, small):
    shutil.rmtree(photos / "val" / "cat")
    run = train(photos, output=tmp_path / "run", overrides=small, quiet=True)
    assert any(
        remark.startswith("classes without validation photos") and "cat" in remark for remark in run.result["remarks"]
    )
    assert run.result["validation"]["images"] == 8


@pytest.mark.slow
def test_a_photo_of_val_that_stands_in_train_is_refused_dropped_or_allowed(photos, tmp_path, small):
    shutil.copy(photos / "train/2/003.png", photos / "val/2/copy.png")
    with pytest.raises(PhotosError, match=r"train/2/003.png is the same photo as val/2/copy.png"):
        train(photos, output=tmp_path / "run", overrides=small, quiet=True)
    dropped = train(photos, output=tmp_path / "dropped", overrides=(*small, "data.leaks=drop"), quiet=True)
    assert dropped.result["split"]["train"] == 36 and dropped.result["split"]["excluded"] == 1
    allowed = train(photos, output=tmp_path / "allowed", overrides=(*small, "data.leaks=allow"), quiet=True)
    assert allowed.result["split"]["train"] == 37 and any("too high" in text for text in allowed.result["remarks"])


def test_rules_are_held_before_the_training(photos, tmp_path, small):
    with pytest.raises(UsageError, match=r"rules.max_parameters: [\d,]+ parameters, but fewer than 1,000 are allowed"):
        train(photos, output=tmp_path / "a", overrides=(*small, "rules.max_parameters=1000"), quiet=True)
    with pytest.raises(UsageError, match=r"rules\.backbones: test_resnet is not allowed"):
        train(photos, output=tmp_path / "b", overrides=(*small, "rules.backbones=[vit*]"), quiet=True)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_weights_of_an_earlier_run_begin_where_it_ended(trained, tmp_path, small):
    photos, run = trained
    without = tuple(s for s in small if not s.startswith("model.weights"))
    still = (*without, "training.learning_rate=1e-12", "training.phases.0.max_epochs=1", "training.rounds=0")
    again = train(photos, output=tmp_path / "again", overrides=still, weights=run.path, quiet=True)
    assert again.result["weights"]["head_too"] and again.result["weights"]["pretrained_on"] == "none"
    assert again.result["validation"]["accuracy"] == pytest.approx(run.result["validation"]["accuracy"], abs=0.2)
    assert Path(read_recipe(again.path / "recipe.yaml").model.weights).is_absolute()


def test_weights_out_of_reach_are_an_error_that_says_what_to_pass(photos, tmp_path, small, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    without = tuple(s for s in small if not s.startswith("model."))
    with pytest.raises(UsageError, match=r"no weights of .* from the Hub.*pass weights FILE.*weights none"):
        train(photos, output=tmp_path / "run", overrides=(*without, "model.backbone=resnet18.a3_in1k"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_frozen_phases_leave_the_backbone_as_it_was(trained, tmp_path, small):
    photos, run = trained
    without = tuple(s for s in small if not s.startswith("model.weights"))
    frozen = (*without, "training.phases.0.trainable=head", "training.phases.1.trainable=head")
    again = train(photos, output=tmp_path / "again", overrides=frozen, weights=run.path, quiet=True)
    before, after = (load_file(path / "bundle/model.safetensors") for path in (run.path, again.path))
    frozen = [name for name in before if name.startswith("backbone.")]
    assert len(frozen) > 10 and all(torch.equal(before[name], after[name]) for name in frozen)


def test_fast_execution_trains_too(photos, tmp_path, small):
    run = train(photos, output=tmp_path / "run", overrides=(*small, "execution=fast"), quiet=True)
    assert run.result["execution"] == "fast" and np.isfinite(run.result["validation"]["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_builds_its_model_and_trains_two_steps(preset, tmp_path, make_photos):
    photos = make_photos(tmp_path / "photos", {"train/a": 3, "train/b": 2, "val/a": 1, "val/b": 1})
    small = ("data.image_size_px=32", "training.batch_size=3", "training.max_epochs=1")
    run = train(photos, recipe=preset, output=tmp_path / "run", overrides=small, weights="none", quiet=True)
    backbone, total = PRESETS[preset]
    assert run.result["parameters"]["backbone"] == backbone and run.result["training"]["images"] == 5
    lines = make_on_meta(assemble.architecture(assemble.resolved(read_recipe(run.path / "recipe.yaml")), 100))
    assert sum(p.numel() for p in lines.parameters()) == total
    assert run.result["optimizer"] == preset.rpartition("-")[2] and run.result["execution"] == "exact"


def test_the_competitions_preset_trains_with_a_small_network(tmp_path, make_photos):
    photos = make_photos(tmp_path / "photos", {"train/a": 3, "train/b": 2, "val/a": 1, "val/b": 1})
    small = ("model.backbone=test_resnet", "rules.backbones=null", "data.image_size_px=32", "training.max_epochs=2")
    run = train(photos, recipe="competition", output=tmp_path / "run", overrides=small, weights="none", quiet=True)
    assert run.result["epochs"] == 2 and run.result["optimizer"] == "adam" and run.result["rules"]["kept"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_cleanly_and_keeps_the_best_model_so_far(photos, tmp_path, small, name, code):
    settings = [part for s in (*small, "training.phases.0.max_epochs=10000") for part in ("--set", s)]
    settings += ["--set", "training.phases.0.patience_epochs=10000", "--recipe", "resnet34-adam"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fieldguide", "train", str(photos), "-o", str(tmp_path / "run"), *settings],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    with process:
        seen = []
        for line in process.stdout:  # until an epoch is there; a training that ends before it fails below
            seen.append(line)
            if line.startswith("  epoch   2"):
                break
        process.send_signal(getattr(signal, name))
        output = "".join(seen) + process.stdout.read()
    assert process.returncode == code, output
    assert f"interrupted by {name}; the best model so far, of epoch" in output and "Traceback" not in output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["stopped"] == {"kind": "signal", "signal": name, "text": f"interrupted by {name}"}
    assert result["format"] == 2 and result["epochs"] >= 2
    assert load(tmp_path / "run").predict([photos / "val/2/000.png"])[0].status == "ok"


@pytest.mark.slow
def test_a_photo_that_goes_away_in_mid_training_is_named(photos, tmp_path, small, monkeypatch):
    photo = (photos / "train/cat/004.png").read_bytes()
    real = trial.train_loop

    def losing(*arguments):
        (photos / "train/cat/004.png").unlink()
        return real(*arguments)

    monkeypatch.setattr(trial, "train_loop", losing)
    with pytest.raises(TrainingError, match=r"train/cat/004.png does not exist; it was readable when") as error:
        train(photos, output=tmp_path / "run", overrides=small, quiet=True)
    assert f"resume with fieldguide train --resume {tmp_path / 'run'}" in str(error.value)
    (photos / "train/cat/004.png").write_bytes(photo)
    monkeypatch.setattr(trial, "train_loop", real)
    assert resume(tmp_path / "run", quiet=True).exit_code == 0


@pytest.mark.parametrize("place", ["train/cat/004.png", "val/cat/001.png"])
def test_a_photo_that_becomes_another_one_in_mid_training_ends_it_and_is_named(
    photos, tmp_path, small, monkeypatch, place
):
    real = trial.train_loop

    def replacing(*arguments):
        (photos / place).write_bytes((photos / "train/2/000.png").read_bytes())
        return real(*arguments)

    monkeypatch.setattr(trial, "train_loop", replacing)
    settings = (*small, "augmentation.engine=reference")
    with pytest.raises(TrainingError, match=f"{place} has changed"):
        train(photos, output=tmp_path / "run", overrides=settings, quiet=True)


def test_a_backbone_that_does_not_take_the_size_is_refused_before_the_training(photos, tmp_path, small):
    settings = (*small, "model.backbone=test_vit", "data.image_size_px=72")
    with pytest.raises(UsageError, match=r"data\.image_size_px: test_vit does not take 72 x 72 images"):
        train(photos, output=tmp_path / "run", overrides=settings, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_run_inside_class_folders_is_refused_since_it_would_become_a_class(tmp_path, make_photos, small):
    photos = make_photos(tmp_path / "photos", {"ash": 6, "oak": 6})
    with pytest.raises(UsageError, match="is inside the photos, where it would become a class"):
        train(photos, output=photos / "runs" / "first", overrides=small, quiet=True)
    assert {path.name for path in photos.iterdir()} == {"ash", "oak"}


def test_a_group_pattern_that_joins_nothing_is_refused(tmp_path, make_photos, small):
    photos = make_photos(tmp_path / "photos", {"ash": 6, "oak": 6})
    with pytest.raises(UsageError, match=r"split\.group_pattern .* finds no two photos of a group"):
        train(photos, output=tmp_path / "run", overrides=(*small, "split.group_pattern='(?P<group>x)y'"), quiet=True)


def test_an_allowed_leak_is_told_once(photos, tmp_path, small):
    shutil.copy(photos / "train/2/003.png", photos / "val/2/copy.png")
    run = train(photos, output=tmp_path / "run", overrides=(*small, "data.leaks=allow"), quiet=True)
    assert len([remark for remark in run.result["remarks"] if "training photo" in remark]) == 1


def test_a_limit_that_leaves_a_phase_without_an_epoch_is_told(photos, tmp_path, small, capsys):
    run = train(photos, output=tmp_path / "run", overrides=(*small, "training.max_epochs=2"))
    assert [stage["name"] for stage in run.result["stages"]] == ["standard"]
    assert "reached training.max_epochs before phase strong could begin" in capsys.readouterr().out


@pytest.mark.slow
def test_a_recipe_built_in_python_with_overrides_in_a_mapping_trains_as_the_same_on_the_command_line(
    photos, tmp_path, small
):
    written = train(photos, output=tmp_path / "text", overrides=[*small, "training.max_epochs=1"], quiet=True)
    built = fieldguide.Recipe(**fieldguide.read_recipe("resnet34-adam", small).model_dump())
    made = fieldguide.train(
        photos, built, tmp_path / "built", overrides={"training": {"max_epochs": 1}}, minutes=60, quiet=True
    )
    assert made.result["recipe"] == "recipe" and made.result["epochs"] == 1
    assert made.result["validation"] == written.result["validation"]
    kept = fieldguide.read_recipe(made.path / "recipe.yaml")
    assert kept.training.max_minutes == 60 and kept.training.phases[0].max_epochs == 4
    with pytest.raises(UsageError, match="did you mean max_epochs"):
        fieldguide.train(photos, built, tmp_path / "no", overrides={"training": {"max_epoch": 1}}, quiet=True)


def test_minutes_that_are_no_number_are_refused_as_a_wrong_field_is(trained, tmp_path):
    with pytest.raises(UsageError, match=r"training.max_minutes: input should be a valid number.*not 'ten'"):
        train(trained[0], output=tmp_path / "run", minutes="ten", quiet=True)
