"""The table of methods as a page."""

from pathlib import Path

from fieldguide.commands.compare import compare
from tests.report.made_up import made_up_run


def test_it_has_a_row_and_curves_of_each_run_and_says_whether_the_difference_is_shown(tmp_path: Path):
    runs = [made_up_run(tmp_path / name, seed=seed).path for seed, name in enumerate(("<i>a", "b"))]
    compare(runs, html_file=tmp_path / "table.html", quiet=True)
    text = (tmp_path / "table.html").read_text()
    assert text.count("<tr>") == 3 and text.count('<svg class="chart"') == 4
    assert "McNemar" in text and "&lt;i&gt;a" in text and "<i>a" not in text


def test_runs_without_predictions_are_named(tmp_path: Path):
    runs = [made_up_run(tmp_path / name, kept=False).path for name in ("a", "b")]
    compare(runs, html_file=tmp_path / "table.html", quiet=True)
    assert "a, b are in no paired comparison" in (tmp_path / "table.html").read_text()
