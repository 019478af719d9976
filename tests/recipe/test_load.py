"""Reading a recipe: every mistake at once, each with the nearest name."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldguide.errors import UsageError
from fieldguide.recipe.load import preset_names, preset_text, read_draft, read_recipe, to_yaml
from fieldguide.recipe.resolve import resolve
from fieldguide.recipe.schema import Recipe, Training
from fieldguide.settings import STANDARD, Phase

OWN = {"image_size_px": 288, "crop_share": 0.95, "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3}


@pytest.fixture
def recipe_file(tmp_path: Path):
    def write(content: str | bytes) -> Path:
        file = tmp_path / "mine.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write


def test_all_mistakes_are_told_at_once_each_with_the_nearest_name(recipe_file):
    draft = read_draft(
        recipe_file("model: {bakbone: x, head: liner}\ntrainin: {seed: 1}\ntraining: {learning_rat: 1, batch_size: 1}"),
        ["training.optimiser=adam", "data.image_size=224"],
    )
    text = "\n".join(draft.problems)
    assert "model.bakbone: there is no such field (did you mean backbone?)" in text
    assert "not 'liner' (did you mean linear?)" in text
    assert "trainin: there is no such field (did you mean training?)" in text
    assert "training.learning_rat: there is no such field (did you mean learning_rate?)" in text
    assert "training.optimiser: there is no such field (did you mean optimizer?)" in text
    assert "data.image_size: there is no such field (did you mean image_size_px?)" in text
    assert "training.batch_size: input should be greater than or equal to 2, not 1" in text
    assert len(draft.problems) == 7
    with pytest.raises(UsageError) as caught:
        draft.demand()
    assert list(caught.value.problems) == list(draft.problems) and caught.value.exit_code == 2


def test_contradictions_are_told_together_with_unknown_fields(recipe_file):
    draft = read_draft(recipe_file("training: {momentum: 0.5, sead: 3, warmup_epochs: 2}\nmodel: {head_width: 8}"))
    text = "\n".join(draft.problems)
    assert "training.sead" in text and "did you mean seed?" in text
    assert "training.momentum would be ignored, because training.optimizer is adam" in text
    assert "training.warmup_epochs would be ignored, because training.schedule is plateau" in text
    assert "model.head_width would be ignored, because model.head is linear" in text
    assert len(draft.problems) == 4


def test_a_soup_of_one_epoch_and_candidates_of_none_are_contradictions(recipe_file):
    (one,) = read_draft(recipe_file("training: {soup: greedy, max_epochs: 1}")).problems
    assert one.startswith("training.soup: greedy averages several epochs, but training.max_epochs is 1")
    (none,) = read_draft(recipe_file("training: {soup_candidates: 3}")).problems
    assert "training.soup_candidates would be ignored, because training.soup is none" in none
    (other,) = read_draft(recipe_file("training: {plan: auto, soup: probe, soup_candidates: 3}")).problems
    assert "training.soup_candidates would be ignored, because training.soup is probe" in other
    (unprobed,) = read_draft(
        recipe_file("training: {soup: probe, phases: [{augmentation: none, max_epochs: 2}]}")
    ).problems
    assert unprobed.startswith("training.soup: probe averages the best epoch with a probe, but the first phase is none")
    assert read_draft(recipe_file("training: {soup: greedy, soup_candidates: 3, ema_decay: 0.99}")).problems == ()


@pytest.mark.parametrize("decay", ["1", "-0.1", "true", ".nan"])
def test_a_decay_that_keeps_nothing_new_is_refused(recipe_file, decay):
    (problem,) = read_draft(recipe_file(f"training: {{ema_decay: {decay}}}")).problems
    assert problem.startswith("training.ema_decay")


def test_a_contradiction_with_a_field_that_is_itself_wrong_is_not_told_twice(recipe_file):
    draft = read_draft(recipe_file("training: {momentum: 0.5, optimizer: sdg}"))
    assert len(draft.problems) == 1 and "did you mean sgd?" in draft.problems[0]
    draft = read_draft(
        recipe_file("augmentation: {policies: {mine: 5}}\ntraining: {phases: [{augmentation: mine}], momentum: 0.1}")
    )
    assert len(draft.problems) == 2, draft.problems
    assert draft.problems[0] == "augmentation.policies.mine: is a section with fields, so it cannot be 5"


def test_two_wrong_phases_hide_no_other_mistake(recipe_file):
    draft = read_draft(recipe_file("training: {phases: [3, 4], momentum: 0.5}"))
    assert [problem.split(":")[0].split(" ")[0] for problem in draft.problems] == [
        "training.phases.0",
        "training.phases.1",
        "training.momentum",
    ]
    draft = read_draft(recipe_file("data: {mean: [a, b, 0.1], leaks: dropp}\ntraining: {max_minutes: -2}"))
    assert len(draft.problems) == 4, draft.problems


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        (["augmentation.engine=fused"], ("augmentation.engine is fused", "execution")),
        (["data.cache_side_px=300"], ("data.cache_side_px", "augmentation.engine")),
        (["augmentation.engine=null", "data.cache_side_px=300"], ("data.cache_side_px", "execution is exact")),
        (["execution=fast", "data.cache_side_px=300"], ("data.cache_side_px", "augmentation.engine is reference")),
        (
            ["execution=fast", "augmentation.engine=fused", "data.cache_side_px=200"],
            ("data.cache_side_px: 200", "data.image_size_px 224"),
        ),
    ],
)
def test_what_the_engine_does_not_do_or_would_ignore_names_both_fields(settings, fields):
    (problem,) = read_draft("resnet34-adam", settings).problems
    assert all(field in problem for field in fields)


@pytest.mark.parametrize(
    ("settings", "engine", "side"),
    [
        ([], "reference", None),
        (["execution=fast"], "reference", None),
        (["execution=fast", "augmentation.engine=null"], "fused", 448),
        (["execution=fast", "augmentation.engine=fused", "data.cache_side_px=0"], "fused", 0),
        (["execution=fast", "augmentation.engine=fused", "data.image_size_px=128"], "fused", 256),
        (["data.cache_side_px=0"], "reference", 0),
        (["augmentation.engine=null"], "reference", None),
    ],
)
def test_the_engine_follows_the_execution_where_it_is_not_named(settings, engine, side):
    recipe = read_recipe("resnet34-adam", settings)
    made = resolve(recipe, {})
    assert made.augmentation.engine == engine and made.data.cache_side_px == side
    without_opencv = resolve(recipe, {}, can_fuse=False)
    assert without_opencv.augmentation.engine == (recipe.augmentation.engine or "reference")
    assert read_recipe_text(to_yaml(made)).model_dump() == made.model_dump()


def read_recipe_text(text):
    return Recipe.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize("value", ["1", "101", "abc", "2.5", "true"])
def test_folds_are_a_number_that_makes_sense(value):
    (problem,) = read_draft("resnet34-adam", [f"split.folds={value}"]).problems
    assert problem.startswith("split.folds")


def test_settings_reach_into_sections_lists_and_sections_that_are_null():
    recipe = read_recipe(
        "resnet34-adam",
        [
            "training.learning_rate=1e-4",
            "training.phases.1.max_epochs=7",
            "data.mean.2=0.5",
            "training.plateau.factor=0.5",
            "data.crop_share=null",
        ],
    )
    assert recipe.training.learning_rate == 1e-4
    assert [phase.max_epochs for phase in recipe.training.phases] == [25, 7]
    assert recipe.data.mean == (0.485, 0.456, 0.5) and recipe.data.crop_share is None
    assert recipe.training.plateau.factor == 0.5


def test_rounds_can_be_a_number_and_then_a_section():
    recipe = read_recipe("resnet34-adam", ["training.rounds=2", "training.rounds.max_epochs=3"])
    assert (recipe.training.rounds.max_rounds, recipe.training.rounds.max_epochs) == (2, 3)


def test_a_field_of_a_list_that_the_recipe_leaves_out_changes_the_default(recipe_file):
    recipe = read_recipe(recipe_file(""), ["training.phases.0.max_epochs=3"])
    assert recipe.training.phases == (Phase(max_epochs=3), Phase(augmentation="strong"))


def test_setting_one_number_of_a_built_in_augmentation_keeps_its_others(recipe_file):
    recipe = read_recipe(recipe_file(""), ["augmentation.policies.standard.brightness=0.3"])
    assert recipe.augmentation.policy("standard") == STANDARD.model_copy(update={"brightness": 0.3})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("seed", "must be FIELD=VALUE"),
        ("=5", "must be FIELD=VALUE"),
        ("training.=5", "must be FIELD=VALUE"),
        ("training.phases.9.max_epochs=1", "the list has no item 9; use 0 to 1"),
        ("training.phases.first.max_epochs=1", "the list has no item first"),
        ("training.seed.x=1", "training.seed is 0, which has no fields"),
        ("training.seed=[", "not valid YAML"),
        ("training.seed=true", "training.seed: cannot be true or false"),
        ("data.mean=[true, 0.1, 0.2]", "data.mean: cannot be true or false"),
        ("training.rounds=true", "training.rounds: cannot be true or false"),
        ("training.learning_rate=.inf", "finite"),
        ("training.seed=0x" + "f" * 5_000, "training.seed: input should be less than"),
        ("data.crop_share=0.001", "224,000 px"),
        ("augmentation.policies.standard.crop_scale=[1, 0.5]", "must be [smallest, largest]"),
        ("augmentation.policies.strong={crop_scale: null, crop_ratio: [1, 2]}", "crop_ratio would be ignored"),
        ("training.phases.0.augmentation=stong", "did you mean strong?"),
        ("rules.pretraining=none", "model.weights is hub, but rules.pretraining is none"),
    ],
)
def test_a_wrong_setting_is_told_in_words(setting, words):
    problems = read_draft("resnet34-adam", [setting]).problems
    assert words in "\n".join(problems) and all(len(problem) < 500 for problem in problems)


def test_an_empty_list_has_no_places():
    problems = read_draft("resnet34-adam", ["training.phases=[]", "training.phases.0.max_epochs=2"]).problems
    assert "overrides training.phases.0: the list is empty" in problems[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xd8\xff\xe0", "not UTF-8 text"),
        (b"x" * 100_001, "over 100,000 bytes"),
        ("training: [1", "not valid YAML, line 1"),
        ("a: &x [1]\nb: *x", "aliases (*name) are not allowed"),
        ("- a\n- b", "this is a list"),
        ("just words", "this is a str"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: !!int ''", "not valid YAML"),
        ("!!python/object/apply:os.system [ls]", "not valid YAML"),
        ("[" * 20_000, "nested more than 30 levels deep"),
        ("? [a]\n: 1", "not valid YAML"),
        ("0x" + "f" * 5_000 + ": 1", "not valid YAML"),
        ("training: {seed: 1}\nmodel: {}\ntraining: {batch_size: 3}", "training is on line 1 and again on line 3"),
        ("training:\n  phases:\n  - {name: a, name: b}", "training.phases.0.name is on line 3 and again"),
        ("1: 2\n", "1: there is no such field"),
        ("null: 2\n", "None: there is no such field"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_words(recipe_file, content, words):
    with pytest.raises(UsageError) as caught:
        read_recipe(recipe_file(content))
    assert words in str(caught.value)


def test_a_missing_file_and_an_unknown_name_are_told(tmp_path):
    assert "cannot be read (No such file" in read_draft(tmp_path / "no.yaml").problems[0]
    assert "cannot be read (Is a directory" in read_draft(tmp_path).problems[0]
    assert "cannot be read" in read_draft("no\0name.yaml").problems[0]
    (problem,) = read_draft("resnet34-adm").problems
    assert "did you mean resnet34-adam?" in problem and "or give a .yaml file" in problem


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves_and_its_resolved_text_reads_back_as_it_is(name, recipe_file):
    recipe = read_recipe(name)
    again = read_recipe(recipe_file(to_yaml(recipe)))
    assert again.model_dump() == recipe.model_dump()
    resolved = resolve(recipe, OWN)
    text = to_yaml(resolved, "a heading\nof two lines")
    assert text.startswith("# a heading\n# of two lines\n")
    assert read_recipe(recipe_file(text)).model_dump() == resolved.model_dump()
    assert resolve(resolved, {}) == resolved
    assert recipe_file(preset_text(name)).stem == "mine" and read_draft(recipe_file(preset_text(name))).recipe == recipe


def test_weights_are_short_for_the_models_field():
    assert read_draft("resnet34-adam", weights="none").recipe.model.weights == "none"
    draft = read_draft("resnet34-adam", ["model=5"], weights="none")
    assert draft.problems == ("model: is a section with fields, so it cannot be 5",)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
NAMES = st.sampled_from([*Recipe.model_fields, "phases", "policies", "standard", "seed", "mean", "rounds", "x", "0", 1])
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
PATHS = st.lists(NAMES.map(str), min_size=1, max_size=4).map(".".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=st.dictionaries(NAMES, TREES, max_size=5), sets=st.lists(st.tuples(PATHS, TREES), max_size=3), junk=st.text()
)
def test_whatever_is_written_there_only_a_usage_error_comes(recipe_file, tree, sets, junk):
    import yaml

    overrides = [f"{path}={yaml.safe_dump(value, default_flow_style=True)}" for path, value in sets]
    draft = read_draft(recipe_file(yaml.safe_dump(tree)), [*overrides, junk])
    assert isinstance(draft.recipe, Recipe) and draft.problems
    assert all(isinstance(problem, str) and problem for problem in draft.problems)


def test_more_photos_at_once_than_a_step_has_are_refused_also_where_the_step_is_the_default():
    for batch in ("null", "64"):
        with pytest.raises(UsageError, match=r"micro_batch_size is 65, more than training\.batch_size 64"):
            read_recipe("resnet34-adam", [f"training.batch_size={batch}", "training.micro_batch_size=65"])


def test_a_probability_of_mixing_without_anything_to_mix_is_refused():
    (problem,) = read_draft("resnet34-adam", ["training.mix_probability=0.5"]).problems
    assert all(f"training.{name}" in problem for name in ("mix_probability", "mixup_alpha", "cutmix_alpha"))
    assert not read_draft("resnet34-adam", ["training.mix_probability=0.5", "training.cutmix_alpha=1"]).problems
    for wrong in ("mix_probability=0", "mix_probability=1.1", "mixup_alpha=-0.1", "cutmix_alpha=101"):
        assert read_draft("resnet34-adam", [f"training.{wrong}"]).problems[0].startswith("training.")


def test_an_augmentation_of_ones_own_can_have_trivial_augment_and_erasing():
    own = ["augmentation.policies.own={trivial_augment: wide, erasing: 0.25}", "training.phases.0.augmentation=own"]
    policy = read_recipe("resnet34-adam", own).augmentation.policies["own"]
    assert (policy.trivial_augment, policy.erasing) == ("wide", 0.25)
    for wrong in ("trivial_augment: narrow", "erasing: 1.5", "erasing: true"):
        (problem,) = read_draft("resnet34-adam", [f"augmentation.policies.own={{{wrong}}}"]).problems
        assert problem.startswith(f"augmentation.policies.own.{wrong.partition(':')[0]}")


SAME = [
    ["training.max_epochs=5", "training.phases.1.max_epochs=2", "data.mean=[0.1, 0.2, 0.3]", "model.head_width=null"],
    {
        "training": {"max_epochs": 5, "phases": {1: {"max_epochs": 2}}},
        "data": {"mean": (0.1, 0.2, 0.3)},
        "model.head_width": None,
    },
    {
        "training.max_epochs": 5,
        "training.phases.1.max_epochs": 2,
        "data.mean": [0.1, 0.2, 0.3],
        "model": {"head_width": None},
    },
    [{"training": {"max_epochs": 5}}, "training.phases.1.max_epochs=2", {"data.mean": [0.1, 0.2, 0.3]}],
]


@pytest.mark.parametrize("overrides", SAME)
def test_overrides_may_be_text_or_mappings_flat_or_nested(overrides):
    made = read_recipe("resnet34-adam", overrides)
    assert made == read_recipe("resnet34-adam", SAME[0]) != read_recipe("resnet34-adam")
    assert (made.training.max_epochs, made.training.phases[1].max_epochs) == (5, 2)
    assert made.training.phases[0] == read_recipe("resnet34-adam").training.phases[0]


def test_a_single_override_needs_no_list():
    assert read_recipe("resnet34-adam", "training.seed=7").training.seed == 7


def test_mistakes_in_mappings_are_told_together_and_name_no_flag():
    wrong = {"training": {"seed": {"x": 1}, "sede": 3, "phases": {9: {"max_epochs": 1}}}, "data.mean": 5, "": 1}
    problems = read_draft("resnet34-adam", wrong).problems
    told = "\n".join(problems)
    assert len(problems) == 5 and "--set" not in told
    for words in (
        "overrides training.seed.x: training.seed is 0, which has no fields",
        "training.sede: there is no such field (did you mean seed?)",
        "overrides training.phases.9: the list has no item 9; use 0 to 1",
        "data.mean: input should be a valid",
        "overrides '': must be FIELD=VALUE",
    ):
        assert words in told


def test_a_recipe_can_be_built_in_python_and_overridden():
    built = Recipe(model={"head": "mlp"}, training=Training(seed=4, phases=(Phase(max_epochs=3),)))
    draft = read_draft(built, {"training.batch_size": 8}, weights="none")
    assert draft.name == "recipe" and draft.problems == ()
    assert (draft.recipe.training.seed, draft.recipe.training.batch_size) == (4, 8)
    assert draft.recipe.training.phases == built.training.phases and draft.recipe.model.weights == "none"
    assert read_recipe(built) == built
    (problem,) = read_draft(Recipe(training={"momentum": 0.5})).problems
    assert problem.startswith("training.momentum would be ignored, because training.optimizer is adam")
