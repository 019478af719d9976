"""What surrounds NNCF: it reports to nobody."""

import os
import sys
from pathlib import Path

import numpy as np

from fieldguide.deploy.export import int8


def test_nncf_is_imported_so_that_it_reports_nothing_and_the_environment_stays(tmp_path, monkeypatch):
    (tmp_path / "nncf.py").write_text(
        "import os\nseen = os.environ.get('NNCF_CI')\nlevels = []\nset_log_level = levels.append\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nncf", raising=False)
    monkeypatch.delenv("NNCF_CI", raising=False)
    imported = int8._nncf()
    assert imported.seen == "1" and imported.levels == [50] and "NNCF_CI" not in os.environ
    monkeypatch.delitem(sys.modules, "nncf")


def test_photos_are_read_once_up_to_a_bound():
    read = []

    def load(path):
        read.append(path.name)
        return np.zeros((10, 10, 3), np.uint8)

    again = int8.remembered(load, most_bytes=700)
    for _ in range(2):
        for name in "abc":
            again(Path(name))
    assert read == ["a", "b", "c", "c"]
