"""The default: a plan by what this machine was measured to do, on photos of every shape that a person may bring."""

import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from fieldguide import UsageError, assemble, evaluate, experiment, predict, resume, train
from fieldguide.assemble import automatic, probing, sizing, speed
from fieldguide.commands import train as train_command
from fieldguide.commands.trial.carry_out import Run
from fieldguide.data.split.partition import Row, Split
from fieldguide.evaluation.intervals import wilson_each
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import read_description
from fieldguide.recipe.load import read_recipe
from fieldguide.run_folder import RunFolder
from tests.torture.runner import differences

BASE = ("model.backbone=test_resnet", "rules.backbones=null")
SAME = ("validation", "training", "probe", "stages", "epochs", "best_epoch", "calibration", "parameters")
AT_32_PX = (*BASE, "data.image_size_px=32")
TWO = {"train/a": 12, "train/b": 12, "val/a": 4, "val/b": 4}


def plan_of(run):
    phases = read_recipe(run.path / "recipe.yaml").training.phases
    return [(phase.method, phase.trainable, phase.batch_norm, phase.max_epochs) for phase in phases]


@pytest.mark.slow
def test_a_probe_then_the_whole_network_and_the_plan_stands_in_the_recipe(tmp_path, make_photos, weights, capsys):
    photos = make_photos(tmp_path / "photos", TWO)
    run = train(photos, output=tmp_path / "run", weights=weights, overrides=AT_32_PX)
    assert plan_of(run) == [("probe", "head", "folded", 1), ("gradient", "all", "folded", 12)]
    recipe = read_recipe(run.path / "recipe.yaml")
    assert recipe.training.plan is None and recipe.training.batch_size == 8 and recipe.training.layer_decay == 0.6
    assert recipe.model.features == "stages_max" == read_description(run.path / "bundle").architecture.features
    assert recipe.training.rounds.patience_epochs == recipe.training.rounds.max_epochs == 6  # each to its cosine's end
    assert set(recipe.augmentation.policies) == {"none", "mild"}
    told = capsys.readouterr().out
    assert (
        "plan: probe on frozen features of three stages, about" in told
        and "then the whole network for 12 epochs at 32 px" in told
    )
    assert "rounds of 6 epochs" in told and recipe.data.test_flips == "none" and recipe.training.label_smoothing == 0.1
    probe, history = run.result["probe"], RunFolder(run.path).read_history()
    assert probe["validation"]["accuracy"] == history[0]["validation"]["accuracy"]
    assert probe["training"]["images"] == 24 and history[0]["stage"] == "probe" and not run.result["out_of_time"]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), ("training.cutmix_alpha=0",)])
def test_photos_are_mixed_where_each_is_seen_often_unless_the_recipe_says_of_itself(
    tmp_path, make_photos, weights, monkeypatch, capsys, settings
):
    monkeypatch.setattr("fieldguide.training.budget.OPEN_EPOCHS", 20)
    monkeypatch.setattr("fieldguide.training.budget.OPEN_ROUNDS", 0)
    photos = make_photos(tmp_path / "photos", TWO)
    run = train(photos, output=tmp_path / "run", weights=weights, overrides=(*AT_32_PX, *settings))
    training = read_recipe(run.path / "recipe.yaml").training
    mixed = (training.mixup_alpha, training.cutmix_alpha, training.mix_probability)
    assert mixed == ((0.0, 0.0, None) if settings else (0.2, 1.0, 0.5))
    told = capsys.readouterr().out
    assert ("in batches of 8 (50% of them with mixed photos), about" in told) is not bool(settings)


@pytest.mark.slow
def test_training_from_the_runs_recipe_measures_nothing_and_gives_the_same_numbers(
    tmp_path, make_photos, weights, monkeypatch
):
    photos = make_photos(tmp_path / "photos", TWO)
    first = train(photos, output=tmp_path / "first", weights=weights, overrides=AT_32_PX, quiet=True)
    monkeypatch.setattr("fieldguide.assemble.automatic.Planner.with_plan", lambda *_: pytest.fail("planned again"))
    again = train(photos, first.path / "recipe.yaml", tmp_path / "again", quiet=True)
    assert differences(first.path, again.path) == ["recipe.yaml", "result.json"]  # its name, and the plan in words
    assert first.result["validation"] == again.result["validation"]


@pytest.mark.slow
def test_a_resumed_run_keeps_its_plan(tmp_path, make_photos, weights, monkeypatch, at_step):
    photos = make_photos(tmp_path / "photos", TWO)
    settings = (*AT_32_PX, "training.checkpoint_every_minutes=0")
    whole = train(photos, output=tmp_path / "whole", weights=weights, overrides=settings, quiet=True)
    at_step(10, lambda: signal.raise_signal(signal.SIGTERM))
    cut = train(photos, output=tmp_path / "cut", weights=weights, overrides=settings, quiet=True)
    assert cut.exit_code == 143
    monkeypatch.setattr("fieldguide.assemble.automatic.Planner.with_plan", lambda *_: pytest.fail("planned again"))
    resume(cut.path, quiet=True)
    assert differences(whole.path, cut.path) in ([], ["result.json"])  # the plan tells of seconds, which differ
    ends = [
        {key: value for key, value in RunFolder(p).read_result().items() if key in SAME} for p in (whole.path, cut.path)
    ]
    assert ends[0] == ends[1] and ends[0]["validation"] and RunFolder(cut.path).read_result()["plan"]


@pytest.mark.slow
@pytest.mark.parametrize("given", ["weights", "none"])
@pytest.mark.parametrize(
    "counts",
    [
        pytest.param({f"train/{name}": 5 for name in "abc"} | {"val/a": 1, "val/b": 1, "val/c": 1}, id="5 a class"),
        pytest.param({"a": 9, "b": 9}, id="two classes, no val"),
        pytest.param({"train/a": 44, "train/b": 2, "val/a": 4, "val/b": 2}, id="22 to 1"),
    ],
)
def test_few_photos_and_crooked_classes(tmp_path, make_photos, weights, counts, given):
    photos = make_photos(tmp_path / "photos", counts)
    chosen = weights if given == "weights" else "none"
    run = train(photos, output=tmp_path / "run", weights=chosen, overrides=AT_32_PX, minutes=0.05, quiet=True)
    expected = [method for method, *_ in plan_of(run)]
    assert expected in ([["probe"], ["probe", "gradient"]] if given == "weights" else [["gradient"]])
    assert run.exit_code == 0 and run.result["num_classes"] == len({name.rpartition("/")[2] for name in counts})
    assert (run.result["probe"] is not None) == (given == "weights")


@pytest.mark.slow
def test_five_hundred_classes(tmp_path, make_photos, weights):
    counts = {f"train/{n:03d}": 2 for n in range(500)} | {f"val/{n:03d}": 1 for n in range(0, 500, 10)}
    photos = make_photos(tmp_path / "photos", counts, size=(12, 12))
    settings = (*AT_32_PX, "data.leaks=allow")
    run = train(photos, output=tmp_path / "run", weights=weights, overrides=settings, minutes=0.1, quiet=True)
    assert run.result["num_classes"] == 500 and run.exit_code == 0


@pytest.mark.slow
def test_small_photos_bound_the_size_that_a_plan_chooses(tmp_path, make_photos, weights):
    photos = make_photos(tmp_path / "photos", TWO, size=(84, 90))
    run = train(photos, output=tmp_path / "run", weights=weights, overrides=BASE, minutes=0.1, quiet=True)
    chosen = read_recipe(run.path / "recipe.yaml").data
    assert chosen.image_size_px in (96, 128, 160) and chosen.cache_side_px in (0, 2 * chosen.image_size_px)
    predict(run.path, [photos / "val/a/000.png"], tmp_path / "p.csv", quiet=True)
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 2


def test_photos_of_4000_px(tmp_path, make_photos, weights):
    photos = make_photos(tmp_path / "photos", {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    for path in photos.rglob("*.png"):
        with Image.open(path) as small:
            small.resize((4_000, 3_000)).save(path.with_suffix(".jpg"), quality=50)
        path.unlink()
    settings = (*AT_32_PX, "training.plan=null", "training.phases=[{method: probe, augmentation: none}]")
    run = train(
        photos, output=tmp_path / "run", weights=weights, overrides=(*settings, "training.rounds=0"), quiet=True
    )
    assert run.result["split"]["train"] == 6 and run.exit_code == 0


def test_bursts_reach_the_probe_the_temperature_and_the_intervals_of_classes(
    tmp_path, make_photos, weights, monkeypatch
):
    photos = make_photos(tmp_path / "photos", {"ash": 12, "oak": 12})
    for path in photos.rglob("*.png"):
        path.rename(path.with_name(f"{path.parent.name}{int(path.stem) // 3}_{int(path.stem) % 3}.png"))
    given, real = [], probing.fit_probe

    def fit_probe(features, labels, num_classes, seed, views, groups):
        given.append(groups.tolist())
        return real(features, labels, num_classes, seed, views, groups)

    monkeypatch.setattr(probing, "fit_probe", fit_probe)
    settings = ("training.plan=null", "training.phases=[{method: probe, augmentation: none}]", "training.rounds=0")
    bursts = (r"split.group_pattern='(?P<group>.+)_\d'", "split.validation_share=0.25")
    run = train(photos, output=tmp_path / "run", weights=weights, overrides=(*AT_32_PX, *settings, *bursts), quiet=True)
    assert given == [[number for number in range(6) for _ in range(3)]]  # files sorted, three a burst
    assert run.result["validation"]["groups"] == 2
    calibration = run.result["calibration"]
    assert calibration["judged"] == "2-fold cross-fitted, groups kept together"
    for row in evaluate(run.path, photos, quiet=True).figures["per_class"]:
        bounds = (row["recall_low"], row["recall_high"])
        assert row["images"] == 3 and bounds == pytest.approx(wilson_of_one(row["recall"]))  # a burst is one photo


def wilson_of_one(share):
    low, high = wilson_each(np.array([share]), np.array([1.0]))
    return low[0], high[0]


def test_a_time_that_is_too_short_for_anything_still_leaves_a_judged_model(tmp_path, make_photos):
    photos = make_photos(tmp_path / "photos", TWO)
    run = train(photos, output=tmp_path / "run", weights="none", overrides=AT_32_PX, minutes=0.001, quiet=True)
    assert run.result["out_of_time"] and run.result["epochs"] == 1 and run.result["validation"]["images"] == 8


@pytest.mark.slow
def test_minutes_bound_every_fold_that_follows_the_plan_of_the_first(tmp_path, make_photos, weights, monkeypatch):
    photos = make_photos(tmp_path / "photos", {"ash": 8, "oak": 8})
    shares, real = [], train_command.seconds_for

    def seconds_for(minutes, began=None, trainings=1):
        shares.append((minutes, trainings))
        return real(minutes, began, trainings)

    monkeypatch.setattr(train_command, "seconds_for", seconds_for)
    monkeypatch.setattr("fieldguide.training.budget.MOST_EPOCHS", 2)
    settings = (*AT_32_PX, "split.folds=2")
    run = train(photos, output=tmp_path / "run", weights=weights, overrides=settings, minutes=20, quiet=True)
    assert shares == [(20, 1), (20, 2), (20, 1)]  # the first is for the look
    plans = [read_recipe(run.path / f"fold-{number}" / "recipe.yaml").training for number in (1, 2)]
    assert plans[0] == plans[1] and plans[0].max_minutes is None


def test_minutes_bound_a_recipe_that_has_a_plan_of_its_own(tmp_path, make_photos, capsys):
    photos = make_photos(tmp_path / "photos", TWO)
    settings = (*AT_32_PX, "training.phases.0.max_epochs=10000", "training.phases.0.patience_epochs=10000")
    run = train(photos, "resnet34-adam", tmp_path / "run", weights="none", overrides=settings, minutes=0.1)
    assert run.result["out_of_time"] and run.result["stages"][-1]["reason"]["kind"] == "out_of_time"
    assert "out of time after epoch" in capsys.readouterr().out
    assert read_recipe(run.path / "recipe.yaml").training.max_minutes == 0.1


def test_a_training_that_was_out_of_time_can_be_trained_longer(tmp_path, make_photos):
    photos = make_photos(tmp_path / "photos", TWO)
    settings = (*AT_32_PX, "training.rounds=0")
    run = train(
        photos, "resnet34-adam", tmp_path / "run", weights="none", overrides=settings, minutes=0.001, quiet=True
    )
    assert run.result["out_of_time"] and run.result["epochs"] == 1
    longer = resume(run.path, overrides=("training.more_epochs=2",), quiet=True)
    assert not longer.result["out_of_time"] and longer.result["epochs"] == 3 and longer.result["more_epochs"] == [2]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("training.phases=[{augmentation: none}]",), "training.phases would be ignored"),
        (("training.rounds={max_epochs: 3}",), "training.rounds would be ignored"),
        (("training.max_minutes=0",), "training.max_minutes"),
        (("training.plan=null", "training.phases.0.views=2"), "training.phases.0.views would be ignored"),
        (("training.plan=null", "training.phases.0.method=probe", "model.head=mlp"), "fits a linear head"),
        (("training.plan=null", "training.phases.1.method=probe"), "put it first"),
        (("training.plan=null", "training.phases.0={method: probe, trainable: last_stage}"), "trainable would be"),
        (("training.plan=null", "training.phases.0={method: probe, max_epochs: 5}"), "max_epochs would be"),
        (("training.plan=null", "training.phases.0={method: probe, augmentation: none, views: 2}"), "the same photo"),
        (("augmentation.policies.mild.hue=0.1",), "auto and uses only standard; leave it out"),
    ],
)
def test_what_would_be_ignored_is_refused(tmp_path, make_photos, settings, named):
    photos = make_photos(tmp_path / "photos", TWO)
    with pytest.raises(UsageError, match=named):
        train(photos, output=tmp_path / "run", weights="none", overrides=(*AT_32_PX, *settings), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_probe_of_several_views_and_an_image_size_of_a_phase(tmp_path, make_photos, weights):
    photos = make_photos(tmp_path / "photos", TWO)
    phases = "[{method: probe, views: 3, augmentation: mild}, {augmentation: mild, image_size_px: 24, max_epochs: 2}]"
    settings = (*AT_32_PX, "training.plan=null", f"training.phases={phases}", "training.rounds=0")
    run = train(photos, output=tmp_path / "run", weights=weights, overrides=settings, quiet=True)
    assert run.result["probe"]["training"]["images"] == 72 and run.result["epochs"] == 3
    assert [stage["name"] for stage in run.result["stages"]] == ["probe", "mild"]


def test_the_micro_batch_is_of_the_largest_phase_and_a_smaller_one_is_told(
    tmp_path, make_photos, weights, monkeypatch, capsys
):
    asked = []

    def kept(model, image_size_px, precision):
        asked.append(image_size_px)
        return 1e6

    monkeypatch.setattr(sizing, "kept_bytes_per_image", kept)
    monkeypatch.setattr(sizing, "available_bytes", lambda device: int(4e6 * 1.6 / 0.75) + 9)
    photos = make_photos(tmp_path / "photos", TWO)
    phases = "[{augmentation: mild, max_epochs: 1}, {augmentation: mild, image_size_px: 48, max_epochs: 1}]"
    settings = (*AT_32_PX, "training.plan=null", f"training.phases={phases}", "training.rounds=0")
    run = train(photos, output=tmp_path / "run", weights=weights, overrides=settings)
    assert set(asked) == {48} and read_recipe(run.path / "recipe.yaml").training.micro_batch_size == 4
    told = " ".join(capsys.readouterr().out.split())
    assert "batch normalisation sees 4 photos at a time, not the whole batch of 64" in told
    assert "or set training.phases.0.batch_norm and training.phases.1.batch_norm to frozen (or folded" in told


@pytest.mark.parametrize(("forward", "photos"), [(0.0, 64), (1.0, 32)])
def test_a_quick_step_is_measured_with_its_whole_batch_and_a_slow_one_with_a_part_of_it(monkeypatch, forward, photos):
    recipe = assemble.resolved(read_recipe("auto", [*BASE, "model.weights=none", "data.image_size_px=32"]))
    model = make_classifier(assemble.architecture(recipe, 3))
    rows = [Row(f"{number}", "abc"[number % 3], "train", "") for number in range(1_000)]
    costs = automatic.Planner(recipe, model, torch.device("cpu"), Split(tuple(rows))).speed
    seen = []
    monkeypatch.setattr(costs, "forward", lambda side_px: forward)
    monkeypatch.setattr(speed, "train_step", lambda model, optimizer, images, *_: seen.append(len(images)))
    assert costs.step(32, "all") >= 0 and set(seen) == {photos}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("training.micro_batch_size=32",), r"training\.micro_batch_size is 32, more than training\.batch_size 8"),
        (("data.cache_side_px=64", "data.image_size_px=null"), r"data\.cache_side_px"),
    ],
)
def test_what_a_plan_chooses_against_what_was_asked_for_is_refused_before_anything_is_written(
    tmp_path, make_photos, settings, named
):
    photos = make_photos(tmp_path / "photos", TWO)
    with pytest.raises(UsageError, match=named):
        train(photos, output=tmp_path / "run", weights="none", overrides=(*AT_32_PX, *settings), quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_experiment_plans_once_a_recipe_so_that_its_seeds_are_trained_alike(
    tmp_path, make_photos, weights, monkeypatch
):
    photos, planned, real = make_photos(tmp_path / "photos", TWO), [], automatic.Planner.with_plan
    monkeypatch.setattr("fieldguide.training.budget.OPEN_ROUNDS", 0)

    def with_plan(*all):
        planned.append(1)
        made = real(*all)
        monkeypatch.setattr("fieldguide.training.budget.OPEN_EPOCHS", 3)  # a plan that is made again shows
        return made

    monkeypatch.setattr("fieldguide.training.budget.OPEN_EPOCHS", 2)
    monkeypatch.setattr(automatic.Planner, "with_plan", with_plan)
    asked = {"seeds": 2, "overrides": (*AT_32_PX, "training.cutmix_alpha=0"), "weights": weights, "quiet": True}
    experiment(photos, ["auto"], tmp_path / "out", **asked)
    recipes = [read_recipe(tmp_path / "out" / f"auto-seed{seed}" / "recipe.yaml") for seed in (0, 1)]
    assert len(planned) == 1 and [recipe.training.seed for recipe in recipes] == [0, 1]
    assert recipes[0].training.phases == recipes[1].training.phases
    again = experiment(photos, ["auto"], tmp_path / "out", **asked)
    assert "differ in more" not in again.rows[-1]["validation_note"]
    assert len(planned) == 1 and [row["method"] for row in again.rows][:2] == ["auto-seed0", "auto-seed1"]
    shutil.rmtree(tmp_path / "out" / "auto-seed0")
    lost = experiment(photos, ["auto"], tmp_path / "out", **asked)  # what is finished stays
    assert lost.exit_code == 0
    told = "these trainings differ in more than the seed (training.phases differ)"
    assert lost.rows[-1]["validation_note"].endswith(f"; {told}")
    assert f"- auto, mean of 2 seeds: {told}" in (tmp_path / "out" / "table.md").read_text()
    assert [plan_of(Run(tmp_path / "out" / f"auto-seed{seed}", {}))[1][3] for seed in (0, 1)] == [3, 2]


def test_time_to_judge_is_kept_by_what_the_network_as_built_takes(monkeypatch):
    rows = [Row(f"{number}.png", "ab"[number % 2], "train" if number % 4 else "val", "") for number in range(400)]
    recipe = assemble.resolved(read_recipe("auto", [*BASE, "model.weights=none"]))
    model = make_classifier(assemble.architecture(recipe, 2))
    planner = automatic.Planner(recipe, model, torch.device("cpu"), Split(tuple(rows)))
    for name, seconds in (("forward", 0.001), ("as_built", 0.1)):
        monkeypatch.setattr(planner.speed, name, lambda side, seconds=seconds: seconds)
    left, _ = planner._outlook(64, automatic.Outlook(lambda: 100.0), steps=False)
    monkeypatch.setattr(planner.speed, "as_built", lambda side: 0.001)
    more, _ = planner._outlook(64, automatic.Outlook(lambda: 100.0), steps=False)
    assert more - left == pytest.approx(automatic.JUDGED * 100 * (0.1 - 0.001))  # of 100 validation photos


@pytest.mark.parametrize(("metric", "spare"), [("accuracy", True), ("macro_accuracy", False)])
def test_an_epoch_is_planned_for_time_that_a_probe_may_leave_unless_its_head_would_be_another(
    monkeypatch, weights, metric, spare
):
    rows = [Row(f"{number}.png", "ab"[number % 2], "train" if number % 4 else "val", "") for number in range(4_000)]
    settings = (*AT_32_PX, f"model.weights={weights}", f"training.metric={metric}")
    recipe = assemble.resolved(read_recipe("auto", settings))
    planner = automatic.Planner(
        recipe, make_classifier(assemble.architecture(recipe, 2)), torch.device("cpu"), Split(tuple(rows))
    )
    for name, seconds in (("forward", 0.002), ("as_built", 0.002), ("step", 0.02)):
        monkeypatch.setattr(planner.speed, name, lambda *_, seconds=seconds: seconds)
    outlook = automatic.Outlook(lambda: 60.0)
    made, told, pace = planner.with_plan(planner.with_sizes(outlook), outlook)
    assert [phase.name for phase in made.training.phases] == ["probe", "gentle"][: 1 + spare]
    assert pace.is_spare is spare and ("if the probe leaves time, the whole network" in told[1]) is spare
