"""A script without the guard is told so, where worker processes would run it again."""

import subprocess
import sys

import pytest

GUARD = 'if __name__ == "__main__": '
SCRIPT = """
import multiprocessing
multiprocessing.set_start_method("{method}")
from fieldguide.data.batch.guard import demand_guard
{guard}demand_guard()
"""


@pytest.mark.parametrize(
    ("method", "guard", "is_told"),
    [
        ("spawn", "", True),
        ("forkserver", "", True),
        ("fork", "", False),
        ("spawn", 'if __name__ == "__main__": ', False),
    ],
)
def test_a_script_that_workers_would_run_again_is_told_of_the_guard(tmp_path, method, guard, is_told):
    (tmp_path / "script.py").write_text(SCRIPT.format(method=method, guard=guard))
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=60)
    assert (done.returncode != 0) == is_told
    assert ('`if __name__ == "__main__":`' in done.stderr) == is_told
