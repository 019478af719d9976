"""What is refused of a recipe before anything is built."""

import pytest

from fieldguide import assemble
from fieldguide.errors import UsageError
from fieldguide.model import backbone as backbones
from fieldguide.recipe.load import read_recipe

VIT = "model.backbone=vit_tiny_patch16_224"


def refused(*settings, recipe="resnet34-adam"):
    made = assemble.resolved(read_recipe(recipe, ["rules.backbones=null", "model.weights=none", *settings]))
    with pytest.raises(UsageError) as error:
        assemble.hold_against_rules(made, 3)
    return str(error.value)


@pytest.mark.slow
def test_a_size_of_one_phase_that_the_backbone_does_not_take_is_refused_by_its_name():
    told = refused(VIT, "training.phases.1.image_size_px=150")
    assert "training.phases.1.image_size_px" in told and "150 x 150" in told and "try 144 or 160" in told
    assert "data.image_size_px" in refused(VIT, "data.image_size_px=150")


@pytest.fixture
def no_stages(monkeypatch):
    """timm tells nothing about the stages of CaFormer."""
    monkeypatch.setattr(backbones, "_by_feature_info", lambda network: [])


@pytest.mark.slow
def test_rates_by_depth_where_nobody_tells_the_stages_are_refused_with_what_to_set(no_stages):
    told = refused("model.backbone=caformer_s18", "training.layer_decay=0.8")
    assert "training.layer_decay" in told and "caformer_s18" in told and "training.layer_decay=1" in told
    whole = ("rules.backbones=null", "model.weights=none", "model.backbone=caformer_s18", "training.layer_decay=1")
    assert assemble.hold_against_rules(assemble.resolved(read_recipe("resnet34-adam", whole)), 3)["kept"]


@pytest.mark.slow
def test_the_default_names_it_too_since_its_rates_fall_by_depth(no_stages):
    made = assemble.resolved(read_recipe("auto", ["model.backbone=caformer_s18"]))
    with pytest.raises(UsageError, match=r"training\.layer_decay is 0\.6, .* set training\.layer_decay=1"):
        assemble.hold_against_rules(made, 3)
