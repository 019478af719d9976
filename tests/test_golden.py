"""No number may change unless it is meant to: the trainings of tests/golden.py, held against tests/golden.json."""

import json
import subprocess
import sys

import pytest

from tests import golden

HOW = "to add it: `python -m tests.golden --write` at the commit before the change, then the test again after it"


@pytest.mark.slow
def test_no_number_changed():
    kind, known = golden.kind_of_machine(), json.loads(golden.GOLDEN.read_text(encoding="utf-8"))
    if kind not in known:
        pytest.skip(f"tests/golden.json does not know this kind of machine ({kind}); {HOW}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden"],
        capture_output=True, text=True, check=False, cwd=golden.GOLDEN.parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    differing = golden.differences(known[kind], json.loads(done.stdout)[kind])
    assert not differing, "numbers changed in these trainings: " + "; ".join(differing)


def test_the_differences_name_the_training_and_its_part():
    before = {"digits": {"weights": "1", "history": "2"}, "plan": {"weights": "3"}, "gone": {}}
    after = {"digits": {"weights": "1", "history": "4"}, "plan": {"weights": "3"}, "new": {}}
    assert golden.differences(before, before) == []
    assert golden.differences(before, after) == ["digits: history", "gone: only in golden.json", "new: only here"]
