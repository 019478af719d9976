"""The tree of mistakes, with its exit codes and its ways to count and list."""

import pytest

from fieldguide import errors
from fieldguide.errors import (
    FieldguideError,
    Interrupted,
    PhotosError,
    TrainingError,
    UsageError,
    counted,
    listing,
    shown_rate,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a"), 2),
        (PhotosError("a"), 1),
        (TrainingError("a"), 1),
        (Interrupted("SIGINT", "a"), 130),
        (Interrupted("SIGTERM", "a"), 143),
    ],
)
def test_each_mistake_is_a_value_error_with_the_exit_code_of_the_command_line(error, code):
    assert isinstance(error, FieldguideError) and isinstance(error, ValueError)
    assert error.exit_code == code and str(error) == "a"


def test_the_tree_in_the_docstring_names_every_mistake():
    for name in (cls.__name__ for cls in FieldguideError.__subclasses__() if cls.__module__ == errors.__name__):
        assert name in errors.__doc__, name


def test_a_usage_error_holds_several_problems():
    error = UsageError("first", "second")
    assert error.problems == ("first", "second") and str(error) == "first\nsecond"


@pytest.mark.parametrize(
    ("number", "thing", "text"),
    [(0, "photo", "0 photos"), (1, "photo", "1 photo"), (2_000, "photo", "2,000 photos"), (3, "class", "3 classes")],
)
def test_things_are_counted_as_people_do(number, thing, text):
    assert counted(number, thing) == text


def test_a_long_list_says_how_many_more_there_are():
    assert listing(["a", "b"]) == "  a\n  b"
    assert listing([str(number) for number in range(1_012)], most=2) == "  0\n  1\n  ... and 1,010 more"
    assert listing(["a", "b"], most=2) == "  a\n  b"


def test_what_would_command_a_terminal_is_written_as_an_escape():
    assert errors.shown("a\x1b[2Jb\x07\r\x9b") == "a\\x1b[2Jb\\x07\\x0d\\x9b"
    assert errors.shown("caf\udce9 \u202egpj.exe \u2028") == "caf\\xe9 \\u202egpj.exe \\u2028"
    assert errors.shown("käse 🧀 👩‍🌾\nnext") == "käse 🧀 👩‍🌾\nnext"


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.001, "0.001"),
        (0.000125, "0.000125"),
        (0.001 / 2**7, "7.8125e-06"),
        (0.001 * 0.1, "0.0001"),
        (0.000293412345, "0.00029"),
        (0.0, "0"),
    ],
)
def test_a_rate_that_a_person_would_write_is_shown_in_full(rate, text):
    assert shown_rate(rate) == text
