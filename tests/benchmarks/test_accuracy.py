"""The parts of benchmarks/accuracy.py that run nothing: what is run next, what is kept, how it is scored and shown."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
MACHINE = {
    "processor": "a processor", "cores": 2, "memory_gb": 8.0, "system": "a system", "date": "2026-01-02",
    "commit": "abc",
}  # fmt: skip
PHOTOS = {
    "train": 8,
    "files": [f"{name}/{i}.jpg" for name in "ab" for i in range(50)],
    "classes": ["a"] * 50 + ["b"] * 50,
}
SETTING = {"backbone": "resnet18", "size": 64, "weights": "w.safetensors", "weights_sha256": "0" * 64, "photos": PHOTOS}


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name in ("accuracy", "paired") or name.startswith("accuracy_")]:
        del sys.modules[name]


def results(folder):
    from accuracy_results import Results

    return Results(folder / "results.jsonl")


def run(method="auto", minutes=1.0, seed=0, right=80, other_cores=0.0):
    predicted = PHOTOS["classes"][:right] + ["b" if name == "a" else "a" for name in PHOTOS["classes"][right:]]
    return {
        "method": method, "minutes": minutes, "seed": seed, "accuracy": right / 100, "seconds_used": 61.0, "epochs": 3,
        "other_cores": other_cores, "versions": {"torch": "2"}, "machine": MACHINE, "predicted": predicted,
    }  # fmt: skip


def begun(folder, *runs):
    made = results(folder)
    made.begin(SETTING)
    for one in runs:
        made.append("run", one)
    return made


def test_every_run_has_its_turn_once_and_methods_alternate():
    import accuracy

    chosen = [accuracy.METHODS[name] for name in ("auto", "report", "timm")]
    cells = list(accuracy.plan(chosen, [5, 1], [0, 1]))
    assert cells[:3] == [("report", None, 0), ("auto", 1.0, 0), ("timm", 1.0, 0)]
    assert cells[5:8] == [("report", None, 1), ("timm", 1.0, 1), ("auto", 1.0, 1)]
    assert len(cells) == len(set(cells)) == 10


@pytest.mark.parametrize(("minutes", "epochs"), [(0.1, 1), (1, 2), (1.2, 3), (5, 14)])
def test_the_epochs_whose_end_is_nearest_are_taken(minutes, epochs):
    import accuracy

    assert accuracy.epochs_that_fit(minutes, {"fixed_seconds": 20.0, "epoch_seconds": 20.0}) == epochs


def test_results_are_there_again_after_an_interruption_in_the_middle_of_a_line(tmp_path, capsys):
    made = begun(tmp_path, run(seed=0), run(seed=1))
    with open(made.path, "a") as file:
        file.write('{"kind": "run", "meth')
    again = results(tmp_path)
    assert set(again.runs()) == {("auto", 1.0, 0), ("auto", 1.0, 1)}
    assert "the last line is cut off and ignored" in capsys.readouterr().err
    again.append("run", run(seed=2))
    assert set(results(tmp_path).runs()) == {("auto", 1.0, seed) for seed in range(3)}


def test_a_failure_counts_until_the_run_is_finished(tmp_path):
    made = begun(tmp_path)
    made.append("failure", {"method": "auto", "minutes": 1.0, "seed": 0, "why": "no such option"})
    assert results(tmp_path).failures() == {("auto", 1.0, 0): "no such option"}
    made.append("run", run())
    assert results(tmp_path).failures() == {}


def test_a_failed_calibration_counts_until_one_succeeds(tmp_path):
    made = begun(tmp_path)
    made.append("failure", {"method": "timm", "minutes": None, "seed": 1_000, "why": "no such network"})
    assert list(made.failures().values()) == ["no such network"]
    made.append("calibration", {"method": "timm", "epoch_seconds": 1.0, "fixed_seconds": 2.0})
    assert results(tmp_path).failures() == {}


def test_results_of_another_setting_are_refused_and_it_is_said_in_what_they_differ(tmp_path):
    begun(tmp_path)
    with pytest.raises(SystemExit, match=r"size was 64 and is 128.*--results"):
        results(tmp_path).begin(SETTING | {"size": 128})


def test_finished_runs_are_not_run_again(tmp_path, monkeypatch):
    import accuracy

    for part in ("train", "val"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "1.jpg").write_bytes(b"")
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"")
    asked = []

    def child(command, timeout_seconds, setting):
        asked.append((command[command.index("--seed") + 1], command[-2:]))
        values = run() | {"predicted": ["a", "b"], "epoch_seconds": [20.0], "accuracy": 1.0}
        del values["method"], values["minutes"], values["seed"]
        return values | {"seconds_used": 40.0}, ""

    monkeypatch.setattr(accuracy, "run_once", child)
    command = [
        "accuracy.py",
        "--photos",
        str(tmp_path),
        "--weights",
        str(weights),
        "--methods",
        "timm",
        "--minutes",
        "1",
    ]
    for seeds in (["0"], ["0", "1"]):
        monkeypatch.setattr(sys, "argv", [*command, "--seeds", *seeds, "--results", str(tmp_path / "r.jsonl")])
        accuracy.main()
    calibration = ("1000", ["--epochs", "1"])
    assert asked == [calibration, ("0", ["--epochs", "2"]), ("1", ["--epochs", "2"])]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([("a/0.jpg", "a", "a")], "lacks 1 photos"),
        ([("a/0.jpg", "a", "a"), ("b/0.jpg", "b", "b"), ("b/0.jpg", "b", "a")], "1 more than once"),
        ([("a/0.jpg", "a", "a"), ("b/0.jpg", "a", "a")], "another true class"),
        ([("a/0.jpg", "a", "1"), ("b/0.jpg", "b", "0")], "no folder of val/"),
    ],
)
def test_a_csv_that_is_not_whole_is_no_result(tmp_path, rows, complaint):
    from accuracy_results import read_csv

    photos, file = {"files": ["a/0.jpg", "b/0.jpg"], "classes": ["a", "b"]}, tmp_path / "predicted.csv"
    file.write_text("\n".join(",".join(row) for row in [("file", "true", "predicted"), *rows]) + "\n")
    with pytest.raises(ValueError, match=re.escape(complaint)):
        read_csv(file, photos)


def test_the_scorer_counts_by_class_names_and_its_interval_does_not_shrink_with_seeds():
    import accuracy_scores as scores

    said = {seed: scores.said(PHOTOS, run(right=right)["predicted"]) for seed, right in enumerate((80, 90, 85))}
    found = scores.score(said)
    assert found.accuracies == (0.8, 0.9, 0.85) and found.mean == pytest.approx(0.85)
    assert (found.low, found.high) == pytest.approx((0.7672, 0.9069), abs=1e-3)  # Wilson's of 85 of 100


@pytest.mark.slow
def test_a_difference_that_all_seeds_share_is_shown_and_one_between_equals_is_not():
    import accuracy_scores as scores

    def said(*rights):
        return {seed: scores.said(PHOTOS, run(right=right)["predicted"]) for seed, right in enumerate(rights)}

    better = scores.paired(said(90, 91, 92), said(70, 71, 72))
    assert better.verdict == "better" and better.difference == pytest.approx(0.2) and 0 < better.low < 0.2 < better.high
    assert [one.only_a for one in better.each.values()] == [20, 20, 20]
    assert scores.paired(said(70), said(90)).verdict == "worse"
    assert scores.paired(said(80, 82, 81), said(81, 80, 82)).verdict == "not shown"


@pytest.mark.slow
def test_the_bootstrap_agrees_with_theory_for_one_seed_and_widens_where_seeds_disagree():
    from accuracy_scores import bootstrap_difference

    draw = np.random.default_rng(0)
    a, b = draw.random((1, 800)) < 0.8, draw.random((1, 800)) < 0.7
    low, high = bootstrap_difference(a, b)
    difference = a[0].astype(float) - b[0]
    half = 1.96 * difference.std() / np.sqrt(800)
    assert (low, high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.006)
    steady = np.repeat(a, 3, axis=0)
    unsteady = np.stack([np.ones(800, bool), a[0], np.zeros(800, bool)])
    width = [np.diff(bootstrap_difference(some, np.repeat(b, 3, axis=0)))[0] for some in (steady, unsteady)]
    assert width[1] > 3 * width[0]


def test_the_bootstrap_of_macro_accuracy_draws_photos_each_in_its_class():
    """A rare class that one has whole and the other misses half of decides, and a small class spreads more."""
    from accuracy_scores import bootstrap_difference

    strata = np.array([1] * 20 + [0] * 180)
    a, b = np.ones((1, 200), bool), np.ones((1, 200), bool)
    b[0, :10] = False
    low, high = bootstrap_difference(a, b, strata)
    half = 1.96 * 0.5 * np.sqrt(0.25 / 20)  # the second class's share of the mean, and its binomial spread
    assert (low, high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.03)
    low, high = bootstrap_difference(a, b)
    assert (low, high) == pytest.approx((0.05 - 0.030, 0.05 + 0.030), abs=0.006)


def test_photos_of_one_stratum_are_drawn_as_they_always_were():
    """The bounds of the tables that are written already."""
    from accuracy_scores import bootstrap_difference

    draw = np.random.default_rng(5)
    a, b = draw.random((2, 300)) < 0.8, draw.random((3, 300)) < 0.7
    again = np.random.default_rng(0)
    expected = []
    for _ in range(500):
        counts = np.bincount(again.integers(300, size=300), minlength=300) / 300
        drawn_a, drawn_b = (some[again.integers(len(some), size=len(some))].mean(axis=0) for some in (a, b))
        expected.append(counts @ (drawn_a - drawn_b))
    assert bootstrap_difference(a, b, resamples=500) == pytest.approx(np.quantile(expected, (0.025, 0.975)), abs=1e-12)


def test_a_bound_of_0_is_0_and_not_what_rounding_makes_of_it():
    """`better` stands for a bound above 0: 1e-17 would say it where as many are right."""
    from accuracy_scores import bootstrap_difference

    near = []
    for wrong in range(4, 40):
        more = round(2 + 1.96 * np.sqrt(2 * wrong + 2))  # so that the lower bound lies about 0
        a, b = np.ones((3, 780), bool), np.ones((1, 780), bool)
        a[:, 100 : 100 + wrong], b[0, : wrong + more] = False, False
        low = bootstrap_difference(a, b, resamples=200)[0]
        near += [low] if abs(low) < 1e-9 else []
    assert len(near) > 3 and near == [0.0] * len(near)


@pytest.mark.slow
def test_the_page_shows_every_row_and_keeps_what_stands_around_its_marks(tmp_path):
    import accuracy_page

    runs = [run(minutes=length, seed=seed, right=right) for length, right in ((1.0, 80), (5.0, 92)) for seed in (0, 1)]
    runs += [run("report", None, 0, 60), run("timm", 5.0, 0, 70, other_cores=0.9), run("fastai", 1.0, 0, 80)]
    made = begun(tmp_path, *runs)
    made.append("failure", {"method": "ultralytics", "minutes": 1.0, "seed": 0, "why": "no such network"})
    page = tmp_path / "page.md"
    page.write_text(f"before\n{accuracy_page.BEGIN}\nold\n{accuracy_page.END}\nafter\n")
    accuracy_page.render(made, page, tmp_path / "plot.png")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| fieldguide `auto` | 5 | 1.02 | 3 | 0.9200, 0.9200 | **0.9200** |" in text
    assert "| the report's method, exact | to its end |" in text
    assert "| fieldguide `auto`, 5 min | fieldguide `auto`, 1 min | +12.0 |" in text
    assert "| fieldguide `auto`, 5 min | the report's method, exact, at its end | +32.0 |" in text
    assert "| fieldguide `auto`, 5 min | timm, by layers, 5 min | +22.0 |" in text
    assert "Ultralytics classify: 1 not run. no such network." in text
    assert "**Disturbed**: in 1 of 7 runs" in text and "by layers, 5 min, seed 0 (0.90)" in text
    assert (tmp_path / "plot.png").stat().st_size > 5_000
    accuracy_page.render(made, page, tmp_path / "plot.png")
    assert page.read_text() == text


def test_a_page_without_marks_is_left_alone(tmp_path):
    import accuracy_page

    page = tmp_path / "page.md"
    page.write_text("text\n")
    with pytest.raises(SystemExit, match="must contain the marks"):
        accuracy_page.render(begun(tmp_path, run()), page, None)
    assert page.read_text() == "text\n"


def test_the_page_of_this_repository_can_be_written_and_names_every_method():
    import accuracy_methods
    import accuracy_page

    text = (BENCHMARKS.parent / "docs" / "accuracy.md").read_text()
    assert text.count(accuracy_page.BEGIN) == text.count(accuracy_page.END) == 1
    given = text.split("## What each method was given")[1].split("## How to read it")[0]
    for method in accuracy_methods.METHODS.values():
        assert method.title.split(", exact")[0].split(", fast")[0] in given
        assert (BENCHMARKS / "peers" / method.script).exists()


def test_two_files_of_results_are_paired_photo_by_photo(tmp_path, monkeypatch, capsys):
    import paired

    for name, right in (("new", 90), ("old", 80)):
        (tmp_path / name).mkdir()
        begun(tmp_path / name, run(right=right), run(method="fastai", right=70))
    files = {name: str(tmp_path / name / "results.jsonl") for name in ("new", "old")}

    def told(*arguments):
        monkeypatch.setattr(sys, "argv", ["paired.py", *arguments])
        paired.main()
        return capsys.readouterr().out

    assert told(files["new"], "auto", files["old"], "auto", "--minutes", "1").startswith("+10.0 points (+")
    assert told(files["old"], "fastai", files["old"], "auto", "--minutes", "1").startswith("-10.0 points (-")
    with pytest.raises(SystemExit, match=r"results\.jsonl: no run of auto at 5 minutes"):
        told(files["new"], "auto", files["old"], "auto", "--minutes", "5")
