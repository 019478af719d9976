import json

import pytest
from PIL import Image

from fieldguide.errors import UsageError
from fieldguide.report.figures import _draw, _with_neighbour, draw_curves
from fieldguide.run_folder import RunFolder


def epoch(number, stage, kind, name, rate, best=False):
    scores = {"images": 10, "loss": 2 / number, "accuracy": 1 - 0.5 / number}
    return {
        "epoch": number, "stage_number": stage, "kind": kind, "stage": name, "learning_rate": rate, "best": best,
        "training": scores, "validation": {**scores, "loss": 3 / number},
    }  # fmt: skip


HISTORY = [
    *(epoch(i, 1, "phase", "standard", 1e-3, True) for i in (1, 2, 3)),
    *(epoch(i, 2, "phase", "strong/odd name", 1e-3) for i in (4, 5)),
    epoch(6, 3, "round", "round 1", 5e-4, True),
]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in HISTORY))
    return RunFolder(tmp_path)


def test_the_whole_run_and_each_stage_get_a_picture(run):
    names = draw_curves(run)
    assert names == ["curves.png", "curves.svg", "01-standard.png", "02-strong-odd-name.png", "03-round-1.png"]
    for name in names:
        if name.endswith(".png"):
            with Image.open(run.figures / name) as picture:
                assert picture.width > 1000 and len(set(picture.convert("L").resize((64, 32)).tobytes())) > 5


def test_the_curves_show_loss_accuracy_rate_and_borders():
    panels = _draw(HISTORY, whole=True).axes
    labels = [axes.get_ylabel() for axes in panels]
    assert labels == ["cross-entropy (nats)", "accuracy", "rate", "rate"]
    training, validation, best = panels[0].get_lines()[:3]
    assert list(training.get_ydata()) == [2 / i for i in range(1, 7)]
    assert list(validation.get_ydata()) == [3 / i for i in range(1, 7)] and list(best.get_xdata()) == [6]
    borders = [line.get_xdata()[0] for line in panels[0].get_lines()[3:]]
    assert borders == [3.5, 5.5] and [text.get_text() for text in panels[0].texts] == [
        "standard",
        "strong/odd name",
        "round 1",
    ]
    assert list(panels[2].get_lines()[0].get_ydata()) == [line["learning_rate"] for line in HISTORY]


def test_a_name_with_dollars_is_drawn_as_it_is(run):
    name = "lr_$1_$2"
    run.history.write_text(json.dumps(epoch(1, 1, "phase", name, 1e-3, True)) + "\n")
    assert draw_curves(run) == ["curves.png", "curves.svg", "01-lr_-1_-2.png"]
    whole, own = (_draw(run.read_history(), whole=whole) for whole in (True, False))
    assert whole.axes[0].texts[0].get_text() == name and not whole.axes[0].texts[0].get_parse_math()
    assert own.get_suptitle() == f"phase {name}, from learning rate 0.001"


@pytest.mark.parametrize(("place", "shown"), [(0, [1, 2]), (1, [1, 2]), (2, [2, 3])])
def test_a_stage_of_one_epoch_is_drawn_as_a_line_with_the_epoch_beside_it(place, shown):
    history = [epoch(number, number, "round", f"round {number}", 0.001 / 2**number) for number in (1, 2, 3)]
    own = history[place]
    panels = _draw(_with_neighbour([own], history), whole=False, own=own)
    training, validation, *rest = panels.axes[0].get_lines()
    assert [list(line.get_xdata()) for line in (training, validation)] == [shown, shown]
    assert [line.get_xdata()[0] for line in rest] == [shown[1] - 0.5]  # the border between the stages
    assert panels.get_suptitle() == f"round {place + 1}, from learning rate {own['learning_rate']:.6g}"


def test_a_run_of_one_epoch_can_be_drawn(run):
    run.history.write_text(json.dumps(HISTORY[0]) + "\n")
    assert draw_curves(run) == ["curves.png", "curves.svg", "01-standard.png"]


@pytest.mark.slow
def test_the_same_history_gives_the_same_files(run):
    draw_curves(run)
    before = (run.figures / "curves.png").read_bytes()
    draw_curves(run)
    assert (run.figures / "curves.png").read_bytes() == before


def test_a_run_without_history_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"history\.jsonl: there is no such file; no epoch was finished"):
        draw_curves(RunFolder(tmp_path))
    (tmp_path / "history.jsonl").write_text("{torn")
    with pytest.raises(UsageError, match=r"history\.jsonl: cannot be read"):
        draw_curves(RunFolder(tmp_path))
