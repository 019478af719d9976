"""A resolved recipe leaves nothing open, and takes the backbone's own where the recipe says nothing."""

import pytest
from pydantic import ValidationError

from fieldguide.recipe.contradictions import contradictions
from fieldguide.recipe.lives import PlannedRecipe, ResolvedRecipe, SettledRecipe, SizedRecipe
from fieldguide.recipe.resolve import planned_mixing, resolve, settle, settled_as, with_plan, with_sizes
from fieldguide.recipe.schema import Augmentation, Data, Model, Recipe, Split, Training
from fieldguide.settings import Phase, Policy, Rounds

OWN = {"image_size_px": 288, "crop_share": 0.95, "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.25,) * 3}


def test_a_recipe_without_a_transform_takes_the_backbones_own():
    assert resolve(Recipe(), OWN).data.model_dump(include=set(OWN)) == OWN


def test_the_recipes_own_transform_wins_field_by_field():
    data = resolve(Recipe(data=Data(image_size_px=128, mean=(0.1, 0.2, 0.3))), OWN).data
    assert (data.image_size_px, data.mean) == (128, (0.1, 0.2, 0.3))
    assert (data.crop_share, data.interpolation, data.std) == (0.95, "bicubic", (0.25,) * 3)


def test_the_heads_width_and_dropout_are_filled_in_by_its_kind():
    found = {
        head: (made.model.head_width, made.model.head_dropout)
        for head in ("linear", "bottleneck", "mlp")
        for made in [resolve(Recipe(model=Model(head=head)), OWN)]
    }
    assert found == {"linear": (None, 0.0), "bottleneck": (1024, 0.3), "mlp": (512, 0.3)}


@pytest.mark.parametrize(
    ("model", "can_join", "features"),
    [
        (Model(), True, "last"),
        (Model(features="auto"), True, "stages_max"),
        (Model(features="auto"), False, "last"),
        (Model(features="auto", head="mlp"), True, "last"),
        (Model(features="auto", weights="none"), True, "last"),
        (Model(features="stages", head="mlp"), False, "stages"),
    ],
)
def test_stages_are_joined_for_a_linear_head_on_pretrained_weights_where_they_can_be(model, can_join, features):
    assert resolve(Recipe(model=model), OWN, can_join=can_join).model.features == features


def test_a_width_and_a_dropout_of_zero_are_kept():
    model = resolve(Recipe(model=Model(head="mlp", head_width=7, head_dropout=0.0)), OWN).model
    assert (model.head_width, model.head_dropout) == (7, 0.0)


def test_only_what_applies_is_filled_in():
    adam = resolve(Recipe(), OWN).training
    assert adam.momentum is None and adam.warmup_epochs is None and adam.plateau is not None
    sgd = resolve(Recipe(training=Training(optimizer="sgd", schedule="cosine")), OWN).training
    assert (sgd.momentum, sgd.warmup_epochs, sgd.plateau) == (0.9, 0.0, None)


def test_every_batch_is_mixed_where_an_alpha_is_set_and_nothing_is_said_where_none_is():
    for alphas in ({"mixup_alpha": 0.2}, {"cutmix_alpha": 1.0}):
        assert resolve(Recipe(training=Training(**alphas)), OWN).training.mix_probability == 1.0
    assert resolve(Recipe(training=Training(cutmix_alpha=1, mix_probability=0.5)), OWN).training.mix_probability == 0.5
    assert resolve(Recipe(), OWN).training.mix_probability is None


def test_the_candidates_of_a_soup_are_filled_in_where_there_is_one():
    assert resolve(Recipe(), OWN).training.soup_candidates is None
    assert resolve(Recipe(training=Training(soup="greedy")), OWN).training.soup_candidates == 5
    assert resolve(Recipe(training=Training(soup="greedy", soup_candidates=3)), OWN).training.soup_candidates == 3


def test_a_metric_that_counts_classes_alike_sets_what_is_done_about_imbalance_unless_it_is_given():
    cases = {
        ("accuracy", None): "none",
        ("macro_accuracy", None): "logit_adjustment",
        ("macro_accuracy", "none"): "none",
        ("macro_accuracy", "balanced_sampling"): "balanced_sampling",
        ("accuracy", "logit_adjustment"): "logit_adjustment",
    }
    for (metric, imbalance), expected in cases.items():
        recipe = Recipe(training=Training(metric=metric, imbalance=imbalance, best_by="validation_loss"))
        assert contradictions(recipe) == [] and resolve(recipe, OWN).training.imbalance == expected


def test_phases_and_rounds_say_their_rate_name_and_augmentation():
    training = Training(
        learning_rate=0.5, phases=(Phase(), Phase(name="late", augmentation="none", learning_rate=0.1)), rounds=Rounds()
    )
    made = resolve(Recipe(training=training), OWN).training
    assert [(phase.name, phase.learning_rate) for phase in made.phases] == [("standard", 0.5), ("late", 0.1)]
    assert made.rounds.augmentation == "none"


def test_the_policies_that_are_used_are_written_out_and_no_others():
    own = Policy(brightness=0.7)
    recipe = Recipe(
        augmentation=Augmentation(policies={"mine": own, "unused": Policy()}),
        training=Training(phases=(Phase(augmentation="mine"),), rounds=Rounds(augmentation="strong")),
    )
    made = resolve(recipe, OWN).augmentation
    assert set(made.policies) == {"mine", "strong"} and made.policies["mine"] == own
    assert made.policies["strong"].vertical_flip == 0.2


def test_a_share_for_validation_is_filled_in_only_where_there_are_no_folds():
    assert resolve(Recipe(), OWN).split.validation_share == 0.15
    assert resolve(Recipe(split=Split(validation_share=0.3)), OWN).split.validation_share == 0.3
    assert resolve(Recipe(split=Split(folds=4)), OWN).split.validation_share is None


LONG, SHORT = ((Phase(method="probe"), Phase(max_epochs=epochs)) for epochs in (20, 19))


def test_a_plan_mixes_photos_from_twenty_epochs_of_steps_on_unless_the_recipe_says_of_itself():
    mixed = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "mix_probability": 0.5}
    assert planned_mixing(Recipe(), LONG) == mixed
    assert planned_mixing(Recipe(), SHORT) == {"mixup_alpha": 0.0, "cutmix_alpha": 0.0}
    for own in ({"mixup_alpha": 0.0}, {"cutmix_alpha": 0.0}, {"mixup_alpha": 0.4}, {"cutmix_alpha": 0.5}):
        expected = {"mixup_alpha": 0.0, "cutmix_alpha": 0.0} | own
        assert planned_mixing(Recipe(training=Training(**own)), LONG) == expected
    assert planned_mixing(Recipe(model=Model(weights="none")), LONG) == {"mixup_alpha": 0.0, "cutmix_alpha": 0.0}


def test_a_plan_of_before_is_taken_over_with_its_mixing_and_not_one_that_was_mixed_otherwise():
    mine = resolve(Recipe(training=Training(plan="auto", batch_size=None)), OWN)
    assert mine.training.mixup_alpha is None and mine.training.cutmix_alpha is None
    sized = with_sizes(mine, 128, 8)
    other = settle(with_plan(sized, LONG, Rounds(max_rounds=1)), precision="bf16", compile=False, micro_batch_size=4)
    assert settled_as(mine, other).model_dump() == other.model_dump()
    training = other.training
    assert (training.mixup_alpha, training.cutmix_alpha, training.mix_probability) == (0.2, 1.0, 0.5)
    unmixed = training.model_copy(update={"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "mix_probability": None})
    other = other.model_copy(update={"training": unmixed})
    assert settled_as(mine, other).model_dump() != other.model_dump()


def test_what_was_not_planned_is_not_taken_over():
    mine = resolve(Recipe(training=Training(plan="auto", max_minutes=3)), OWN)
    assert settled_as(mine, mine) == mine


def test_each_life_has_its_own_type_and_reads_back_with_the_same_numbers():
    written = Recipe(training=Training(plan="auto", max_minutes=5, batch_size=None))
    resolved = resolve(written, OWN)
    sized = with_sizes(resolved, 96, 32)
    planned = with_plan(sized, (Phase(method="probe", augmentation="none"), Phase(augmentation="mild")), Rounds())
    settled = settle(planned, precision="fp32", compile=True, micro_batch_size=16)
    lives = [type(life) for life in (resolved, sized, planned, settled)]
    assert lives == [ResolvedRecipe, SizedRecipe, PlannedRecipe, SettledRecipe]
    assert (resolved.data.image_size_px, resolved.training.batch_size) == (None, None)
    assert (sized.data.image_size_px, sized.data.cache_side_px, sized.training.batch_size) == (96, 192, 32)
    assert [(phase.name, phase.image_size_px) for phase in planned.training.phases] == [("probe", 96), ("mild", 96)]
    assert set(planned.augmentation.policies) == {"none", "mild"} and planned.training.max_minutes is None
    training = settled.training
    assert (training.precision, training.compile, training.micro_batch_size) == ("fp32", "always", 16)
    for life in (resolved, sized, planned, settled):
        assert list(life.model_dump()) == list(Recipe.model_fields)
        assert list(life.training.model_dump()) == list(Training.model_fields)
        assert Recipe.model_validate(life.model_dump(mode="json")).model_dump() == life.model_dump()
    again = settle(resolve(Recipe(**settled.model_dump()), {}), precision="bf16", compile=False, micro_batch_size=1)
    assert again == settled


def test_a_recipe_without_a_plan_is_planned_when_it_is_resolved():
    planned = resolve(Recipe(), OWN)
    assert type(planned) is PlannedRecipe and resolve(planned, {}) == planned
    with pytest.raises(ValidationError, match="image_size_px"):
        SizedRecipe.model_validate(
            {**planned.model_dump(), "data": {**planned.data.model_dump(), "image_size_px": None}}
        )


def test_without_a_plan_photos_are_mixed_only_where_the_recipe_says_so():
    training = resolve(Recipe(), OWN).training
    assert (training.mixup_alpha, training.cutmix_alpha, training.mix_probability) == (0.0, 0.0, None)


def test_a_probability_of_mixing_without_an_alpha_is_refused_in_the_words_of_its_case():
    for plan, why in (
        ("auto", "a plan chooses its own"),
        (None, "mixup_alpha and training.cutmix_alpha are 0"),
    ):
        found = contradictions(Recipe(training=Training(plan=plan, mix_probability=0.3)))
        assert [why in pair.message for pair in found] == [True]


def test_statistics_of_random_weights_are_refused_for_the_first_steps_and_no_matter_to_a_probe():
    probe, frozen = Phase(method="probe"), Phase(batch_norm="frozen")
    random = Model(weights="none", head="linear")
    for phases, field in (((probe,), None), ((frozen,), "0"), ((probe, frozen), "1"), ((Phase(), frozen), None)):
        found = contradictions(resolve(Recipe(model=random, training=Training(phases=phases)), OWN))
        named = [pair.fields for pair in found]
        assert named == ([] if field is None else [(f"training.phases.{field}.batch_norm", "model.weights")])


def test_the_augmentations_of_a_plan_can_be_changed_and_others_would_be_ignored():
    for weights, taken in (("hub", {"none", "mild"}), ("none", {"standard"})):
        for name in ("none", "mild", "standard", "own"):
            own = Augmentation(policies={name: Policy()})
            recipe = Recipe(model=Model(weights=weights), augmentation=own, training=Training(plan="auto"))
            named = [pair.fields for pair in contradictions(recipe)]
            assert named == ([] if name in taken else [(f"augmentation.policies.{name}", "training.plan")])


def test_a_resolved_probe_contradicts_nothing():
    probe = Phase(method="probe", augmentation="mild", views=3)
    made = resolve(Recipe(training=Training(phases=(probe, Phase()))), OWN)
    assert made.training.phases[0].max_epochs == 1 and contradictions(made) == []


def test_photos_are_cached_for_the_largest_phase():
    phases = (Phase(), Phase(image_size_px=512))
    made = resolve(Recipe(execution="fast", training=Training(phases=phases)), OWN)
    assert made.data.cache_side_px == 1_024 and contradictions(made) == []
    small = Recipe(data=Data(image_size_px=224, cache_side_px=256), training=Training(phases=phases))
    named = [pair.fields for pair in contradictions(small)]
    assert named == [("data.cache_side_px", "training.phases.1.image_size_px")]
