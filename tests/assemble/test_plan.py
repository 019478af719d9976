"""A recipe's phases are the loop's stages: no field of theirs is copied by name, so none can be forgotten."""

from fieldguide.assemble import make_plan
from fieldguide.recipe.resolve import resolve
from fieldguide.recipe.schema import Recipe, Training
from fieldguide.settings import Phase, Rounds
from fieldguide.training.plan import Ended, next_stage

OWN = {"image_size_px": 64, "crop_share": 1.0, "interpolation": "bilinear", "mean": (0.5,) * 3, "std": (0.5,) * 3}
PHASES = (
    Phase(method="probe", views=2, augmentation="mild"),
    Phase(name="late", max_epochs=4, learning_rate=0.5, trainable="last_stage", batch_norm="frozen", image_size_px=96),
)


def test_every_field_of_a_phase_reaches_its_stage():
    recipe = resolve(Recipe(training=Training(phases=PHASES, rounds=Rounds(max_rounds=1))), OWN)
    plan = make_plan(recipe)
    for phase, stage in zip(recipe.training.phases, plan.phases, strict=True):
        assert stage.model_dump() == phase.model_dump() | {"kind": "phase"}
    assert [stage.label for stage in plan.phases] == ["phase probe", "phase late"]


def test_a_round_is_the_last_phase_with_what_rounds_have_of_their_own():
    rounds = Rounds(max_rounds=1, max_epochs=7, patience_epochs=2, min_improvement=0.1, augmentation="strong")
    plan = make_plan(resolve(Recipe(training=Training(phases=PHASES, rounds=rounds)), OWN))
    found = next_stage(plan, [Ended(stage, 1, True, "") for stage in plan.phases])
    assert found.model_dump() == plan.phases[-1].model_dump() | {
        "kind": "round",
        "name": "round 1",
        "augmentation": "strong",
        "max_epochs": 7,
        "learning_rate": 0.25,
        "min_improvement": 0.1,
        "patience_epochs": 2,
    }


def test_a_round_after_a_probe_takes_steps():
    plan = make_plan(resolve(Recipe(training=Training(phases=PHASES[:1], rounds=Rounds(max_rounds=1))), OWN))
    assert next_stage(plan, [Ended(plan.phases[0], 1, True, "")]).method == "gradient"
