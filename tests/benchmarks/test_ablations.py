"""The parts of benchmarks/ablations.py that run nothing."""

import sys
import threading

import pytest

from fieldguide import assemble
from fieldguide.recipe.load import read_recipe

from .test_accuracy import BENCHMARKS, begun
from .test_accuracy import run as run_of_accuracy

NAMES = (
    "base", "no-probe", "last-features", "no-maxima", "views", "one-rate", "one-low-rate", "high-rate", "head-10",
    "decay-all", "no-decay", "no-warm-up", "constant", "no-smoothing", "lean", "sgd", "norm-frozen",
    "norm-train", "standard", "last-two", "trivial", "erasing", "cutmix", "mixup", "mixed", "mixed-ema", "ema",
    "soup", "no-mean", "gentle", "growing", "adjusted", "balanced", "flips", "test-size",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.startswith(("ablations", "accuracy_"))]:
        del sys.modules[name]


def run(name, seed, right, log_loss=0.5):
    return run_of_accuracy(name, None, seed, right) | {"validation_log_loss": log_loss}


def recipe_of(name, epochs=6):
    from ablations_parts import PARTS

    fields = ["model.backbone=resnet18.tv_in1k", "data.image_size_px=128", *PARTS[name].fields(epochs, 128)]
    return assemble.resolved(read_recipe(str(BENCHMARKS / "ablations.yaml"), fields))


@pytest.mark.parametrize("name", NAMES)
def test_every_part_is_a_whole_recipe_of_as_many_epochs_that_differs_from_the_training_itself(name):
    recipe = recipe_of(name)
    epochs = [phase.max_epochs for phase in recipe.training.phases if phase.method == "gradient"]
    assert sum(epochs) == 6 and recipe.training.rounds.max_rounds == 0
    assert (recipe == recipe_of("base")) == (name == "base")


def test_all_parts_are_tested():
    from ablations_parts import PARTS

    assert tuple(PARTS) == NAMES


@pytest.mark.parametrize(("name", "epochs", "smoothing"), [("base", 6, 0.1), ("gentle", 4, 0.0)])
def test_the_training_itself_is_what_auto_plans(name, epochs, smoothing):
    """But for what auto leaves to the plan, and for the number of epochs."""
    from fieldguide.assemble.automatic import _phases
    from fieldguide.training.budget import Planned, Task

    planned = Planned(True, "all", epochs, 0, 1, 1.0, 1.0)
    auto = read_recipe("auto", ["model.backbone=resnet18.tv_in1k", "data.image_size_px=128", "training.batch_size=64"])
    training = assemble.resolved(auto).training
    phases = tuple(_phases(planned, "folded", Task(100, 10, 4, True, True), training.learning_rate))
    written = auto.model_copy(
        update={
            "training": auto.training.model_copy(
                update={
                    "plan": None, "phases": phases, "rounds": auto.training.rounds.model_copy(update={"max_rounds": 0}),
                    "learning_rate": training.learning_rate, "layer_decay": training.layer_decay,
                    "soup": training.soup, "label_smoothing": smoothing,
                }
            )
        }
    )  # fmt: skip
    assert assemble.resolved(written) == recipe_of(name, epochs)


@pytest.mark.torture
def test_the_table_holds_each_part_against_the_training_itself_by_the_seeds_that_both_have(tmp_path):
    import ablations

    runs = [run("base", seed, 80) for seed in (0, 1, 2)]
    runs += [run("ema", seed, 95, 0.25) for seed in (0, 1)] + [run("sgd", 0, 60)]
    made = begun(tmp_path, *runs)
    made.append("failure", {"method": "soup", "minutes": None, "seed": 0, "why": "no memory"})
    made.lines[0] |= {"epochs": 6, "at_once": 2}
    rows = {line.split("|")[1].strip(): line for line in ablations.table(made) if line.startswith("|")}
    assert (
        "| 2 | 0.9500 | +15.0 |" in rows["average of weights, 0.998"] and "better" in rows["average of weights, 0.998"]
    )
    assert "| 1 | 0.6000 | -20.0 |" in rows["SGD, 0.01, momentum 0.9"] and "worse" in rows["SGD, 0.01, momentum 0.9"]
    assert "| 3 | 0.8000 |  |" in rows["the training itself"]
    assert any("greedy soup" in line and "no memory" in line for line in ablations.table(made))
    assert ", 2 at a time on a share of them each; " in ablations.table(made)[0]


@pytest.mark.slow
def test_what_is_there_for_macro_accuracy_has_a_row_by_that_too(tmp_path):
    import ablations

    base = run("base", 0, 95) | {"predicted": ["a"] * 90 + ["b"] * 5 + ["a"] * 5}
    balanced = run("balanced", 0, 91) | {"predicted": ["a"] * 81 + ["b"] * 9 + ["b"] * 10}
    made = begun(tmp_path, base, balanced, run("ema", 0, 95))
    made.lines[0] |= {"epochs": 6, "at_once": 1}
    made.lines[0]["photos"] = made.lines[0]["photos"] | {"classes": ["a"] * 90 + ["b"] * 10}
    lines = "\n".join(ablations.table(made)).split("\n")
    head = next(number for number, line in enumerate(lines) if "| macro accuracy |" in line)
    by_accuracy, by_macro = (
        {line.split("|")[1].strip(): line for line in some if line.startswith("| ")}
        for some in (lines[:head], lines[head + 1 :])
    )
    assert "| 0.9100 | -4.0 |" in by_accuracy["balanced sampling"]
    assert set(by_macro) - {"---"} == {"the training itself", "balanced sampling"}
    assert "| 0.7500 |  |" in by_macro["the training itself"]
    assert "| 0.9500 | +20.0 |" in by_macro["balanced sampling"] and "**better**" in by_macro["balanced sampling"]


def test_the_table_goes_between_its_marks(tmp_path, monkeypatch):
    import ablations

    page = tmp_path / "EXPERIMENTS.md"
    made = begun(tmp_path, run("base", 0, 80))
    own = [mark.format(made.path.stem) for mark in (ablations.BEGIN, ablations.END)]
    others = "\n".join(mark.format("others") for mark in (ablations.BEGIN, ablations.END))
    page.write_text(f"before\n{own[0]}\nold\n{own[1]}\n{others}\nafter\n")
    text = made.path.read_text().replace('"kind": "setting"', '"kind": "setting", "epochs": 6, "at_once": 1', 1)
    made.path.write_text(text)
    monkeypatch.setattr(sys, "argv", ["ablations.py", "--results", str(made.path), "--page", str(page)])
    ablations.main()
    written = page.read_text()
    assert (
        written.startswith("before\n")
        and written.endswith(f"{others}\nafter\n")
        and "0.8000" in written
        and "old" not in written
    )


def test_runs_beside_each_other_have_a_share_of_the_cores_each_and_stand_in_the_results_as_they_end(
    tmp_path, monkeypatch, capsys
):
    import ablations

    (tmp_path / "weights").write_text("weights")
    for part in ("train", "val"):
        (tmp_path / "photos" / part / "a").mkdir(parents=True)
        (tmp_path / "photos" / part / "a" / "1.jpg").write_text("photo")
    given, met = set(), threading.Barrier(2, timeout=30)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5, 7, 9}, raising=False)
    monkeypatch.setattr("os.sched_setaffinity", lambda _, cores: given.add(frozenset(cores)), raising=False)

    def run_once(command, timeout_seconds, setting):
        met.wait()  # fails unless another one is there at the same time
        if "training.ema_decay=0.998" in command and command[command.index("--seed") + 1] == "1":
            return {}, "no memory"
        return {"accuracy": 0.5, "seconds_used": 60.0}, ""

    monkeypatch.setattr(ablations, "run_once", run_once)
    results = tmp_path / "results.jsonl"
    words = f"--photos {tmp_path / 'photos'} --weights {tmp_path / 'weights'} --results {results} --seeds 0 1"
    monkeypatch.setattr(sys, "argv", ["ablations.py", *words.split(), "--parts", "ema", "--at-once", "2"])
    with pytest.raises(SystemExit):
        ablations.main()
    made = ablations.Results(results)
    assert set(made.runs()) == {("base", None, 0), ("base", None, 1), ("ema", None, 0)}
    assert made.failures() == {("ema", None, 1): "no memory"}
    assert given == {frozenset({3, 7}), frozenset({5, 9})}
    assert "1 runs failed" in capsys.readouterr().err
