import pytest

from fieldguide.commands.env import env
from fieldguide.errors import UsageError


def test_it_tells_device_precision_compiling_and_allocator():
    told = dict(env("cpu"))
    assert told["device"].startswith("cpu") and "threads" in told["device"]
    assert told["compile"].startswith("never")
    assert told["precision"].startswith(("bf16", "fp32"))
    assert told["allocator"] and told["torch"] != "not installed"


def test_a_device_that_is_not_there_is_a_mistake_of_the_user():
    with pytest.raises(UsageError, match="this machine has"):
        list(env("cuda:99"))
