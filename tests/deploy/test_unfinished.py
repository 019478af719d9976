import errno
from pathlib import Path

import pytest

from fieldguide.deploy.unfinished import Row, Unfinished
from fieldguide.errors import MachineError

ROWS = [Row(f"{number}.jpg,a\n", f"{number}.jpg", "a", "ok", "") for number in range(4)]


def test_a_full_disk_says_where_and_how_to_go_on_and_loses_no_batch_before(tmp_path, monkeypatch):
    kept = Unfinished(tmp_path / "x.csv", "about", 2)
    assert not kept.begin(resume=False)
    kept.add(ROWS[:2], ["plain"])
    real = Path.open

    def full(path, mode="r", *args, **more):
        if mode == "ab":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *args, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(
        MachineError, match=r"x\.csv\.partial: cannot be written \(No space left on device\); make room"
    ):
        kept.add(ROWS[2:], ["plain"])
    monkeypatch.undo()
    again = Unfinished(tmp_path / "x.csv", "about", 2)
    assert again.begin(resume=True) and again.done == 2 and again.engines == ["plain"]
    again.add(ROWS[2:], ["plain"])
    assert list(again.rows()) == ROWS
