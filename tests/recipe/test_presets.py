"""Each preset says what the report did, to the letter."""

import re

import pytest

from fieldguide.assemble import make_plan, resolved
from fieldguide.model.architecture import Architecture
from fieldguide.model.backbone import pretrained_on, pretrained_preprocessing
from fieldguide.model.classifier import count_parameters, make_on_meta
from fieldguide.model.table import known_backbones
from fieldguide.recipe.load import preset_names, preset_text, read_recipe
from fieldguide.recipe.resolve import resolve
from fieldguide.recipe.rules import verdict
from fieldguide.settings import Policy
from fieldguide.training.ends import Reason
from fieldguide.training.plan import Convergence, Ended, next_stage

# preset: backbone, head, optimiser, epochs over both phases, report's validation and test, backbone alone, with head
REPORT = {
    "resnet34-adam": ("resnet34.tv_in1k", "mlp", "adam", 50, "0.80", "0.87", 21_284_672, 21_598_628),
    "resnet34-sgd": ("resnet34.tv_in1k", "mlp", "sgd", 50, "0.80", "0.81", 21_284_672, 21_598_628),
    "resnet50-adam": ("resnet50.a1_in1k", "bottleneck", "adam", 30, "0.88", "0.88", 23_508_032, 25_710_756),
    "resnet50-sgd": ("resnet50.a1_in1k", "bottleneck", "sgd", 30, "0.71", "0.82", 23_508_032, 25_710_756),
    "resnetrs101-adam": ("resnetrs101.tf_in1k", "bottleneck", "adam", 30, "0.90", "0.93", 61_569_696, 63_772_420),
}
every_method = pytest.mark.parametrize("name", REPORT)


@every_method
def test_a_preset_says_the_reports_network_and_arithmetic(name):
    recipe = read_recipe(name)
    backbone, head, *_ = REPORT[name]
    assert (recipe.model.backbone, recipe.model.head, recipe.model.weights) == (backbone, head, "hub")
    resolved = resolve(recipe, {})
    assert (resolved.model.head_width, resolved.model.head_dropout) == ({"mlp": 512, "bottleneck": 1024}[head], 0.3)
    assert recipe.execution == "exact" and resolved.augmentation.engine == "reference"


@every_method
def test_a_preset_says_the_reports_optimiser_and_schedule(name):
    training = resolve(read_recipe(name), {}).training
    assert (training.optimizer, training.learning_rate, training.batch_size) == (REPORT[name][2], 0.001, 64)
    is_sgd = training.optimizer == "sgd"
    assert (training.momentum, training.weight_decay) == ((0.9, 1e-4) if is_sgd else (None, 0))
    assert (training.schedule, training.plateau.metric) == ("plateau", "validation_accuracy")
    assert (training.plateau.factor, training.plateau.patience_epochs) == (0.1, 3)
    assert (training.label_smoothing, training.gradient_clip_norm) == (0, None)
    assert training.best_by == "validation_loss"


@every_method
def test_a_preset_trains_the_tables_epochs_all_of_them_and_no_rounds(name):
    training = resolve(read_recipe(name), {}).training
    assert [phase.augmentation for phase in training.phases] == ["standard", "strong"]
    assert sum(phase.max_epochs for phase in training.phases) == REPORT[name][3]
    for phase in training.phases:
        assert (phase.learning_rate, phase.trainable) == (0.001, "all")
        assert phase.patience_epochs == phase.max_epochs == REPORT[name][3] / 2
    plan = make_plan(resolved(read_recipe(name)))
    losses = [5.0, *[6.0] * 99]  # no epoch but the first is better, so anything that ended early would show
    assert follow(plan, losses) == [("standard", 0.001, REPORT[name][3] // 2), ("strong", 0.001, REPORT[name][3] // 2)]


def follow(plan, losses):
    """(stage, first rate, epochs) of each stage of a plan, by validation losses given in their order."""
    remaining, stages, ended, best = iter(losses), [], [], float("inf")
    while stage := next_stage(plan, ended):
        convergence, epochs, improved = Convergence(stage.min_improvement, stage.patience_epochs), 0, False
        while epochs < stage.max_epochs and not convergence.is_reached:
            loss = next(remaining)
            improved, best = improved or loss < best, min(best, loss)
            convergence.take(loss)
            epochs += 1
        ended.append(Ended(stage, epochs, improved, Reason.MAX_EPOCHS))
        stages.append((stage.name, stage.learning_rate, epochs))
    return stages


def test_the_final_models_preset_is_method_5_in_all_but_its_rounds():
    final, method = read_recipe("report-final"), read_recipe("resnetrs101-adam")
    without = final.training.model_copy(update={"rounds": method.training.rounds})
    assert final.model_copy(update={"training": without}) == method
    header = re.match(r"(#.*\n)+", preset_text("report-final")).group()
    for said in ("0.1915", "0.9498", "0.3555", "0.9100", "test 0.94", "63,772,420", "--recipe report-final "):
        assert said in header
    assert "# Ours: " in header and "# It says: " in header


@pytest.mark.parametrize("rounds", [1, 2, 7, 9])
def test_the_final_models_rounds_go_on_at_half_the_rate_until_one_brings_nothing(rounds):
    plan = make_plan(resolved(read_recipe("report-final")))
    losses = [1 - 0.001 * i for i in range(30 + 10 * (rounds - 1))] + [1.0] * 10
    phases, made = follow(plan, losses)[:2], follow(plan, losses)[2:]
    assert phases == [("standard", 0.001, 15), ("strong", 0.001, 15)]
    assert made == [(f"round {n}", 0.001 / 2**n, 10) for n in range(1, rounds + 1)]
    assert {stage.augmentation for stage in plan.phases[1:]} == {"strong"} == {plan.rounds.augmentation}
    assert 0.001 / 2**7 < 1e-5 < 0.001 / 2**6  # the rate that the author went down to


@every_method
def test_a_preset_says_the_reports_augmentation_and_preprocessing(name):
    recipe = read_recipe(name)
    common = {"crop_scale": (0.08, 1.0), "crop_ratio": (3 / 4, 4 / 3), "horizontal_flip": 0.5, "hue": 0.1}
    tenth = dict.fromkeys(("brightness", "contrast", "saturation"), 0.1)
    fifth = dict.fromkeys(("brightness", "contrast", "saturation"), 0.2)
    assert recipe.augmentation.policy("standard") == Policy(**common, **tenth, rotation_degrees=15)
    assert recipe.augmentation.policy("strong") == Policy(
        **common, **fifth, rotation_degrees=30, vertical_flip=0.2, translation_share=0.1
    )
    data = recipe.data
    assert (data.image_size_px, round(data.image_size_px / data.crop_share), data.interpolation) == (
        224,
        256,
        "bilinear",
    )
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@every_method
def test_a_presets_rules_are_the_competitions(name):
    rules = read_recipe(name).rules
    assert (rules.max_parameters, rules.external_data) == (100_000_000, "none")
    assert {"resnet*", "resnext*", "seresnet*", "seresnext*", "resnetrs*"} <= set(rules.backbones)


@every_method
def test_a_preset_begins_with_what_it_is_the_reports_figures_the_command_and_the_cost(name):
    text = preset_text(name)
    header = re.match(r"(#.*\n)+", text).group()
    *_, validation, test, _, total = REPORT[name]
    assert f"validation {validation}, test {test}" in header and f"{total:,}" in header
    assert f"fieldguide train PHOTOS --recipe {name} " in header
    assert "Method" in header.splitlines()[0] and re.search(r"Cost: +\S", header)


@every_method
def test_a_presets_network_has_exactly_these_parameters_for_100_classes(name):
    model = resolve(read_recipe(name), {}).model
    made = make_on_meta(Architecture(model.backbone, model.head, model.head_width, model.head_dropout, 100))
    *_, backbone, total = REPORT[name]
    assert count_parameters(made) == {"total": total, "backbone": backbone, "head": total - backbone}


def test_the_competitions_preset_is_what_others_won_with_within_the_rules():
    recipe = read_recipe("competition")
    resolved = resolve(recipe, pretrained_preprocessing(recipe.model.backbone))
    made = make_on_meta(Architecture(recipe.model.backbone, "linear", None, 0.0, 100))
    total = count_parameters(made)["total"]
    found = verdict(resolved, total, pretrained_on(recipe.model.backbone))
    assert found["kept"] and found["unverified"] == [] and total == 91_744_180
    data = resolved.data
    assert (data.image_size_px, round(data.image_size_px / data.crop_share)) == (288, 320)
    assert (resolved.training.optimizer, resolved.training.learning_rate) == ("adam", 1e-5)
    (phase,) = resolved.training.phases
    assert phase.patience_epochs == phase.max_epochs and phase.augmentation == "small_subjects"


def test_the_competitions_preset_says_whose_figures_it_names_and_its_other_backbone_keeps_the_stricter_rule():
    header = re.match(r"(#.*\n)+", preset_text("competition")).group()
    words = " ".join(header.replace("#", " ").split())
    assert "0.98" in words and "These figures are theirs; nothing of this recipe was measured here." in words
    assert "91,744,180 parameters" in header and "fieldguide train PHOTOS --recipe competition " in header
    known = {row.name: row for row in known_backbones()}
    assert f"{known[read_recipe('competition').model.backbone].gmacs:.1f} giga-multiply-accumulates" in header
    (other,) = re.findall(r"use (seresnext\S+) ", words)
    stricter = ["rules.pretraining=imagenet-1k", f"model.backbone={other}"]
    recipe = read_recipe("competition", stricter)
    assert verdict(recipe, known[other].parameters, pretrained_on(other))["kept"]


def test_the_reports_five_methods_are_there():
    assert set(REPORT) <= set(preset_names())
    assert preset_names() == sorted(preset_names())
