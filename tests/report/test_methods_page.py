"""The table of methods as a page."""

from pathlib import Path

import pandas
import pytest

from fieldguide.commands.compare import compare
from fieldguide.errors import UsageError
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
    assert "a, b are not compared" in (tmp_path / "table.html").read_text()


def test_runs_without_a_history_are_named_in_place_of_their_curves(tmp_path: Path):
    runs = [made_up_run(tmp_path / name, seed=seed) for seed, name in enumerate("abc")]
    for run, charts in ((runs[0], 4), (runs[1], 2), (runs[2], 0)):
        run.history.unlink()
        compare([run.path for run in runs], html_file=tmp_path / "table.html", quiet=True)
        text = (tmp_path / "table.html").read_text()
        assert text.count('<svg class="chart"') == charts
    assert "(a cross-validation has one per fold): a, b, c." in text and "All curves use the same axes" not in text


def test_the_table_is_shown_though_a_page_cannot_be_made(tmp_path: Path, capsys):
    runs = [made_up_run(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    runs[1].history.write_text("{torn")
    with pytest.raises(UsageError, match=r"history\.jsonl: cannot be read"):
        compare([run.path for run in runs], html_file=tmp_path / "table.html")
    assert "McNemar" in capsys.readouterr().out
