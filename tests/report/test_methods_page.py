"""The table of methods as a page."""

from pathlib import Path

import pandas

from fieldguide.commands.compare import compare
from tests.report.made_up import made_up_run


def test_it_has_a_row_and_curves_of_each_run_and_says_whether_the_difference_is_shown(tmp_path: Path):
    runs = [made_up_run(tmp_path / name, seed=seed).path for seed, name in enumerate(("<i>a", "b"))]
    compare(runs, html_file=tmp_path / "table.html", quiet=True)
    text = (tmp_path / "table.html").read_text()
    assert text.count("<tr>") == 3 and text.count('<svg class="chart"') == 4
    assert "McNemar" in text and "&lt;i&gt;a" in text and "<i>a" not in text


def test_hostile_names_of_runs_are_text_on_the_page_and_read_back_from_the_table(tmp_path: Path, capsys):
    names = ("<script>alert(1)<", '" onerror="alert(2)', "[red]a", "two\rlines\n", "=1+1")
    runs = [made_up_run(tmp_path / name, seed=seed).path for seed, name in enumerate(names)]
    compare(runs, html_file=tmp_path / "table.html", csv_file=tmp_path / "table.csv")
    text = (tmp_path / "table.html").read_text()
    assert text.count("<script>") == 1 and 'onerror="' not in text
    assert pandas.read_csv(tmp_path / "table.csv")["method"].tolist() == list(names)
    assert "[red]a" in capsys.readouterr().out


def test_runs_without_predictions_are_named(tmp_path: Path):
    runs = [made_up_run(tmp_path / name, kept=False).path for name in ("a", "b")]
    compare(runs, html_file=tmp_path / "table.html", quiet=True)
    assert "a, b are in no paired comparison" in (tmp_path / "table.html").read_text()
