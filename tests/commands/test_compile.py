"""What was measured of torch.compile is said before the training, and is in its result and its resumed run's."""

from fieldguide import assemble, resume
from fieldguide.assemble.compiling import Choice
from tests.commands.by_the_report import train

TOLD = "not compiled: 8 photos take 10 ms forward and backward, compiled 9.9 ms, and compiling takes 30 s"


def test_what_was_measured_of_compiling_is_said_and_kept(photos, tmp_path, small, monkeypatch, capsys):
    asked = []

    def choose(model, recipe, precision, at_once, steps, seconds_left):
        asked.append((precision, at_once, steps, seconds_left))
        return Choice(False, TOLD)

    monkeypatch.setattr(assemble, "may_pay", lambda recipe, device: recipe.training.compile == "auto")
    monkeypatch.setattr(assemble, "choose", choose)
    settings = (*small, "execution=fast", "training.precision=fp32", "training.max_epochs=1")
    run = train(photos, output=tmp_path / "run", overrides=settings)
    assert asked == [("fp32", 8, 1 * 37 // 8, None)]
    assert f"torch.compile: {TOLD}" in capsys.readouterr().out.replace("\n", " ")
    assert run.result["compile"] == {"mode": "never", "measured": TOLD}
    again = resume(tmp_path / "run", overrides=["training.more_epochs=1"])
    assert len(asked) == 1 and again.result["compile"] == run.result["compile"]
    assert f"torch.compile: {TOLD}" in capsys.readouterr().out.replace("\n", " ")
