"""What a person sees while it trains."""

from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.terminal.training_display import TrainingDisplay
from fieldguide.training.state import Epoch, Scores, State


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
