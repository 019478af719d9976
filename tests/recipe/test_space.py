import pytest

from fieldguide import UsageError
from fieldguide.recipe.space import Choice, Range, probes, read_space


def test_a_space_has_values_and_ranges(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "training.plan: [null]\ntraining.learning_rate: {from: 0.001, to: 0.1, scale: log}\n"
        "training.batch_size: {from: 8, to: 64}\n"
    )
    space = read_space(tmp_path / "s.yaml")
    assert space == {
        "training.plan": Choice((None,)),
        "training.learning_rate": Range(0.001, 0.1, True),
        "training.batch_size": Range(8, 64, False),
    }
    assert space["training.batch_size"].is_whole and not space["training.learning_rate"].is_whole
    first = {"training.plan": None, "training.learning_rate": 0.001, "training.batch_size": 8}
    assert [(field, value) for field, value, _ in probes(space)][1:3] == [
        ("training.learning_rate", 0.001), ("training.learning_rate", 0.1),
    ]  # fmt: skip
    assert next(values for _, value, values in probes(space) if value == 64) == first | {"training.batch_size": 64}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.b: 3", "a.b: must be a list of values, or"), ("a.b: []", "must be a list of values, such as"),
        ("a.b: [1, 1]", "has a value twice"), ("a.b: {from: 1}", "must be a list of values, or"),
        ("a.b: {from: 2, to: 1}", "from must be below to"), ("a.b: {from: x, to: 1}", "must be numbers"),
        ("a.b: {from: 0, to: 1, scale: log}", "a log scale needs from above 0"),
        ("a.b: {from: 0, to: 1, scale: odd}", "scale must be linear or log"), ("", "has no fields"),
        ("training.seed: [1, 2]", "must be the same for all trials"), ("a.b: [1]", "nothing to search"),
        ("rules.max_parameters: [1, 2]", "must be the same for all trials"), ("a: [", "not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_space_is_said(tmp_path, text, words):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(UsageError, match=words):
        read_space(tmp_path / "s.yaml")


def test_a_file_that_is_missing_is_named_by_the_option(tmp_path):
    with pytest.raises(UsageError, match=r"space .*none\.yaml: cannot be read"):
        read_space(tmp_path / "none.yaml")
