"""What a person sees while it trains."""

import io

from rich.console import Console

from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.terminal.training_display import TrainingDisplay
from fieldguide.training.ends import Reason
from fieldguide.training.plan import Ended
from fieldguide.training.state import Epoch, Scores, State
from tests.training.stages import phase


def epoch(number, seconds, learning_rate):
    scores = Scores(10, 5.0, 9)
    return Epoch(number, 1, "phase", "a", learning_rate, scores, scores, seconds, 100.0, False)


def test_the_time_left_is_told_by_epochs_of_steps_alone(capsys):
    display = TrainingDisplay(Screen(), most_epochs=4, images_per_epoch=10)
    display.epoch_done(epoch(1, 1_000.0, 0.0), State())  # a probe, which has no rate
    assert " left" not in capsys.readouterr().out
    display.epoch_done(epoch(2, 60.0, 1e-3), State())
    assert "at most 2 min left" in capsys.readouterr().out
    display.epoch_done(epoch(3, 60.0, 1e-3), State())
    display.epoch_done(epoch(4, 60.0, 1e-3), State())
    assert capsys.readouterr().out.count(" left") == 1


def test_after_the_last_epoch_of_a_stage_no_further_one_is_announced():
    screen = Screen(Console(file=io.StringIO(), force_terminal=True, width=120))
    display = TrainingDisplay(screen, most_epochs=2, images_per_epoch=10)

    def shown():
        with screen.console.capture() as captured:
            screen.console.print(display._render())
        return captured.get()

    stage = phase(max_epochs=1)
    display.stage_begins(stage, State())
    assert "epoch 1" in shown()
    display.epoch_done(epoch(1, 60.0, 1e-3), State())
    display.stage_done(Ended(stage, 1, True, Reason.MAX_EPOCHS))
    assert "epoch 2" not in shown() and "0/10" not in shown()
    display.stage_begins(stage, State())
    assert "epoch 2" in shown()
