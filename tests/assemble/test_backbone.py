"""`model.backbone: auto`: what rules and minutes leave, and of that the most accurate."""

import pytest

from fieldguide.assemble.backbone import MOST_GMACS_FROM_SCRATCH, MOST_GMACS_WITHOUT_MINUTES, Budget, resolve_backbone
from fieldguide.errors import UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.model.backbone import pretrained_on
from fieldguide.model.classifier import count_parameters, make_on_meta
from fieldguide.model.table import known_backbones
from fieldguide.recipe.load import read_draft
from fieldguide.recipe.schema import Data, Model, Recipe, Rules

BY_NAME = {known.name: known for known in known_backbones()}
PLENTY = Budget(1_000, minutes=1e9, macs_per_second=1e12)


def chosen(budget, *, size=224, weights="hub", head="linear", classes=10, **rules):
    recipe = Recipe(
        model=Model(backbone="auto", weights=weights, head=head), data=Data(image_size_px=size), rules=Rules(**rules)
    )
    made, sentence = resolve_backbone(recipe, classes, budget)
    assert made.model.backbone in sentence
    assert made.model_copy(update={"model": recipe.model}) == recipe  # nothing else was touched
    return BY_NAME[made.model.backbone], sentence


def test_a_recipe_that_names_its_backbone_is_left_as_it_is():
    recipe = Recipe()
    assert resolve_backbone(recipe, 10, PLENTY) == (recipe, "")


def test_with_time_for_everything_it_is_the_most_accurate_of_the_table():
    known, sentence = chosen(PLENTY)
    assert known.top1_percent == max(other.top1_percent for other in BY_NAME.values())
    assert f"{known.top1_percent:.1f} % published on ImageNet" in sentence


def test_more_minutes_choose_no_less_accurate_backbone_and_each_has_its_passes():
    accuracies, speed = [], 100e9
    for minutes in (0.5, 1, 2, 5, 15, 40, 200):
        known, sentence = chosen(Budget(2_400, minutes, speed), size=128)
        accuracies.append(known.top1_percent)
        if "cheapest" not in sentence:
            seconds = 3 * 2_400 * 3 * known.gmacs * (128 / known.image_size_px) ** 2 * 1e9 / speed
            assert seconds <= minutes * 60
    assert accuracies == sorted(accuracies) and len(set(accuracies)) >= 4


def test_a_faster_machine_smaller_images_and_fewer_photos_are_as_good_as_more_minutes():
    slow, _ = chosen(Budget(2_400, 5, 50e9))
    for faster in (Budget(2_400, 5, 500e9), Budget(240, 5, 50e9), Budget(2_400, 50, 50e9)):
        assert chosen(faster)[0].top1_percent > slow.top1_percent
    assert chosen(Budget(2_400, 5, 50e9), size=64)[0].top1_percent > slow.top1_percent
    assert chosen(Budget(2_400, 5, 50e9, fewest_passes=0.5))[0].top1_percent > slow.top1_percent


def test_where_nothing_fits_it_is_the_cheapest_and_that_is_said():
    known, sentence = chosen(Budget(1_000_000, 0.01, 1e9))
    assert known.gmacs_at(224) == min(other.gmacs_at(224) for other in BY_NAME.values())
    assert "the cheapest that the rules allow, but too slow for 0.01 min" in sentence


def test_without_minutes_a_cost_bounds_it():
    known, sentence = chosen(Budget(1_000))
    rest = [other for other in BY_NAME.values() if other.gmacs_at(224) <= MOST_GMACS_WITHOUT_MINUTES]
    assert known in rest and known.top1_percent == max(other.top1_percent for other in rest)
    assert "8 GMACs a photo, as no minutes were given" in sentence


@pytest.mark.slow
def test_parameters_are_counted_with_the_head():
    known, _ = chosen(PLENTY, classes=100, max_parameters=100_000_000)
    total = count_parameters(make_on_meta(Architecture(known.name, "linear", None, 0.0, 100)))["total"]
    assert total < 100_000_000 and known.name == "seresnextaa101d_32x8d.sw_in12k_ft_in1k_288"
    smaller, _ = chosen(PLENTY, classes=100, max_parameters=total)  # fewer than that many
    assert smaller.parameters < known.parameters
    other, _ = chosen(PLENTY, classes=100, head="bottleneck", max_parameters=total + 1)
    assert other.parameters < known.parameters


def test_only_allowed_names_are_chosen():
    known, _ = chosen(PLENTY, backbones=("resnet18*", "resnet34*"))
    assert known.name == "resnet34d.ra2_in1k" or known.name.startswith(("resnet18", "resnet34"))
    assert known.top1_percent == max(
        other.top1_percent for name, other in BY_NAME.items() if name.startswith(("resnet18", "resnet34"))
    )


def test_the_rule_about_pretraining_is_kept_and_asks_nothing_of_random_weights():
    known, _ = chosen(PLENTY, pretraining="imagenet-1k")
    assert pretrained_on(known.name) == "imagenet-1k"
    free, _ = chosen(PLENTY, pretraining="any")
    assert pretrained_on(free.name) != "imagenet-1k"
    scratch, _ = chosen(PLENTY, weights="none", pretraining="none")
    assert scratch.gmacs <= MOST_GMACS_FROM_SCRATCH < free.gmacs  # with time for everything
    assert scratch.top1_percent == max(
        other.top1_percent for other in BY_NAME.values() if other.gmacs_at(224) <= MOST_GMACS_FROM_SCRATCH
    )


def test_rules_that_allow_none_are_told_with_what_they_say():
    with pytest.raises(UsageError) as caught:
        chosen(PLENTY, max_parameters=1_000_000, backbones=("vit*",))
    text = str(caught.value)
    assert "rules allow none of them (max_parameters 1,000,000; backbones vit*)" in text and "name a backbone" in text


@pytest.mark.parametrize("weights", ["/some/file.safetensors", "runs/earlier"])
def test_the_table_knows_no_backbone_of_a_file_and_the_files_are_asked_instead(weights):
    assert read_draft("digits", ["model.backbone=auto", f"model.weights={weights}"]).problems == ()
    with pytest.raises(UsageError, match="has; name it"):
        chosen(PLENTY, weights=weights)


def test_the_recipe_may_say_auto():
    assert read_draft("digits", ["model.backbone=auto"]).problems == ()
