"""A training that was interrupted goes on and ends as if it had not been; what stands in the way is named."""

import json
import os
import random
import shutil
import signal
import subprocess

import pytest
from safetensors.torch import load_file

from fieldguide import MachineError, PhotosError, UsageError, evaluate, experiment, resume
from fieldguide.commands import resume as resume_command
from fieldguide.commands.trial import carry_out as trial
from fieldguide.commands.trial import go_on as go_on_module
from fieldguide.commands.trial import judge_run
from fieldguide.errors import Interrupted, TrainingError
from fieldguide.report.write import report
from fieldguide.run_folder import RunFolder
from fieldguide.storage import digest
from fieldguide.training.checkpoint_files import Checkpoints
from tests.commands.by_the_report import train
from tests.torture.runner import EVERY_STEP, Torture, differences, without_times

STEPS_PER_EPOCH = 5  # of the fixture `trained`: 37 photos in batches of 8
CHANGED = r"training\.learning_rate is 0\.5, was 0\.003"


@pytest.fixture
def interrupted(trained, tmp_path, small, at_step):
    """(photos, run) of a training that got SIGTERM in its second epoch; as `trained`, but for that."""
    at_step(STEPS_PER_EPOCH + 2, lambda: signal.raise_signal(signal.SIGTERM))
    run = train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    assert run.exit_code == 143 and len(run.result["stages"]) == 1
    return trained[0], run.path


def same(run, other):
    return differences(run, other) == []


def seconds_beside(run):
    """Seconds waited for data and seconds in all, as the newest checkpoint tells."""
    newest = max((run / "checkpoint").glob("*.json"))
    return json.loads(newest.read_text())["checkpoint"]["beside"]["waited_for_data"]


def test_a_signal_saves_and_says_how_to_go_on_and_the_end_is_the_same(interrupted, trained, tmp_path):
    _, run = interrupted
    before = seconds_beside(run)
    done = resume(run, quiet=True)
    assert done.exit_code == 0 and same(trained[1].path, run)
    waited, seconds = seconds_beside(run)
    assert waited > before[0] > 0 and seconds > before[1] > before[0]  # of both processes, as all other figures
    assert done.result["waited_for_data"] == waited / seconds
    with pytest.raises(
        UsageError, match=r"is finished; to train it longer: fieldguide train --resume .*more_epochs=10"
    ):
        resume(run, quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_in_the_first_epoch_keeps_the_steps_done(trained, tmp_path, small, at_step, name, code):
    at_step(3, lambda: signal.raise_signal(getattr(signal, name)))
    with pytest.raises(
        Interrupted, match=f"interrupted by {name} before the first epoch ended, so there is no model yet"
    ) as error:
        train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    assert error.value.exit_code == code and f"resume with fieldguide train --resume {tmp_path / 'run'}" in str(
        error.value
    )
    with pytest.raises(UsageError, match="holds an unfinished run; resume it: fieldguide train --resume"):
        train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    resume(tmp_path / "run", quiet=True)
    assert same(trained[1].path, tmp_path / "run")


@pytest.mark.slow
def test_a_second_sigint_stops_at_once_and_the_saved_step_stays(trained, tmp_path, small, at_step):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_step(STEPS_PER_EPOCH + 2, twice)
    with pytest.raises(Interrupted, match="stopped at once by SIGINT; what was saved is kept; resume with") as error:
        train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    assert error.value.exit_code == 130 and not (tmp_path / "run/result.json").exists()
    resume(tmp_path / "run", quiet=True)
    assert same(trained[1].path, tmp_path / "run")


@pytest.mark.slow
def test_a_signal_while_the_model_is_judged_loses_nothing(trained, tmp_path, small, monkeypatch):
    monkeypatch.setattr(judge_run, "draw_curves", lambda run: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted, match="stopped at once by SIGTERM") as error:
        train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    assert error.value.exit_code == 143
    monkeypatch.undo()
    resume(tmp_path / "run", quiet=True)
    assert same(trained[1].path, tmp_path / "run")


def test_a_signal_that_is_ignored_stays_ignored(trained, tmp_path, small, at_step):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        at_step(2, lambda: signal.raise_signal(signal.SIGHUP))
        run = train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.exit_code == 0


def test_other_settings_are_refused_by_name(interrupted):
    _, run = interrupted
    with pytest.raises(UsageError, match=CHANGED):
        resume(run, overrides=["training.learning_rate=0.5"], quiet=True)
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("learning_rate: 0.003", "learning_rate: 0.5", 1))
    with pytest.raises(UsageError, match=CHANGED):
        resume(run, quiet=True)
    with pytest.raises(UsageError, match="is not finished, so you cannot add epochs yet; resume it first"):
        (run / "recipe.yaml").write_text(text)
        resume(run, overrides=["training.more_epochs=2"], quiet=True)
    resume(run, overrides=["training.checkpoint_every_minutes=1"], quiet=True)


def test_a_run_that_began_before_a_field_existed_goes_on_with_the_fields_default(interrupted, trained):
    _, run = interrupted
    asked = json.loads((run / "resume.json").read_text())
    assert asked["recipe"]["data"].pop("test_flips") == "none"
    (run / "resume.json").write_text(json.dumps(asked))
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("  test_flips: none\n", ""))
    assert (run / "recipe.yaml").read_text() != text
    with pytest.raises(UsageError, match=r"data\.test_flips is horizontal, was none"):
        resume(run, overrides=["data.test_flips=horizontal"], quiet=True)
    resume(run, quiet=True)
    assert differences(trained[1].path, run) == ["recipe.yaml"]


def test_changed_photos_and_a_changed_split_are_named(interrupted, tmp_path, capsys):
    photos, run = shutil.copytree(interrupted[0], tmp_path / "photos"), interrupted[1]
    shutil.copy(photos / "train/2/001.png", photos / "train/2/000.png")
    (photos / "val/cat/002.png").unlink()
    shutil.copy(photos / "train/2/001.png", photos / "train/2/new.png")
    with pytest.raises(PhotosError, match="2 photos changed since") as error:
        resume(run, photos, quiet=True)
    assert "train/2/000.png has different content" in str(error.value)
    assert "val/cat/002.png is missing" in str(error.value)
    split = (run / "split.csv").read_text()
    (run / "split.csv").write_text(split.replace(",val,", ",train,", 1))
    with pytest.raises(UsageError, match=r"split\.csv: has changed since this run began"):
        resume(run, quiet=True)
    (run / "split.csv").write_text(split)
    with pytest.raises(
        UsageError, match="there is no such folder; say where the photos are now: fieldguide train PHOTOS"
    ):
        resume(run, tmp_path / "nowhere", quiet=True)


def test_photos_may_have_moved_and_new_ones_are_told(interrupted, trained, tmp_path, capsys):
    photos, run = shutil.copytree(interrupted[0], tmp_path / "photos"), interrupted[1]
    shutil.copy(photos / "train/2/001.png", photos / "train/2/new.png")
    resume(run, photos)
    assert "1 photo added after this run began; ignored" in capsys.readouterr().out
    assert same(trained[1].path, run)


def test_of_a_damaged_checkpoint_the_one_before_is_used(interrupted, trained, capsys):
    _, run = interrupted
    _, second = sorted((run / "checkpoint").glob("*.safetensors"))
    content = bytearray(second.read_bytes())
    content[-5] ^= 1
    second.write_bytes(content)
    resume(run)
    assert f"{second}: is damaged (its checksum differs); using the one before" in capsys.readouterr().out
    assert same(trained[1].path, run)


def test_where_no_checkpoint_is_whole_the_run_is_left_as_it_is(interrupted):
    _, run = interrupted
    for path in (run / "checkpoint").glob("*.json"):
        path.write_text("{}")
    with pytest.raises(UsageError, match="all checkpoints are damaged; start a new run, from the best model"):
        resume(run, quiet=True)
    assert (run / "bundle/model.safetensors").exists()


def test_what_cannot_go_on_says_so(tmp_path, trained):
    with pytest.raises(UsageError, match="no such run"):
        resume(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is not a run"):
        resume(tmp_path)
    old = shutil.copytree(trained[1].path, tmp_path / "old")
    (old / "resume.json").unlink()
    with pytest.raises(UsageError, match="comes from a version that could not resume"):
        resume(old)
    (old / "resume.json").write_text('{"format": 1, "photos": 3}')
    with pytest.raises(UsageError, match=r"resume\.json: is damaged"):
        resume(old)


def test_a_finished_run_is_trained_longer_and_the_old_result_stays(trained, tmp_path, capsys):
    run = shutil.copytree(trained[1].path, tmp_path / "run")
    before = json.loads((run / "result.json").read_text())
    done = resume(run, overrides=["training.more_epochs=2"])
    shown = capsys.readouterr().out
    assert (
        "2 more epochs as a further round, from the model of epoch" in shown and "0.5 times the last stage's" in shown
    )
    assert json.loads((run / "result.before-1.json").read_text()) == before and (run / "report.before-1.html").exists()
    assert done.result["epochs"] == before["epochs"] + 2 and done.result["more_epochs"] == [2]
    last, further = before["stages"][-1], done.result["stages"][-1]
    assert further["name"] == "more epochs 1" and further["epochs"] == 2
    assert further["learning_rate"] == last["learning_rate"] * 0.5
    if not further["improved"]:
        assert (run / "bundle/model.safetensors").read_bytes() == (
            trained[1].path / "bundle/model.safetensors"
        ).read_bytes()
    again = resume(run, overrides=["training.more_epochs=1"], quiet=True)
    assert again.result["more_epochs"] == [2, 1] and (run / "result.before-2.json").exists()


@pytest.mark.slow
def test_more_epochs_can_be_interrupted_too(trained, tmp_path, at_step, monkeypatch):
    whole, cut = (shutil.copytree(trained[1].path, tmp_path / name) for name in ("whole", "cut"))
    resume(whole, overrides=["training.more_epochs=2"], quiet=True)
    at_step(2, lambda: signal.raise_signal(signal.SIGINT))
    assert resume(cut, overrides=["training.more_epochs=2"], quiet=True).exit_code == 130
    with pytest.raises(UsageError, match="is not finished, so you cannot add epochs yet"):
        resume(cut, overrides=["training.more_epochs=5"], quiet=True)
    assert resume(cut, overrides=["training.more_epochs=2"], quiet=True).exit_code == 0  # the same command again
    assert same(whole, cut) and (cut / "result.before-1.json").exists()


def test_a_loss_that_is_not_finite_keeps_the_last_good_state_and_says_what_to_change(
    trained, tmp_path, small, monkeypatch
):
    real, calls = trial.train_loop, []

    def poisoning(model, *arguments):
        def poison(module, inputs):
            calls.append(1)
            return (inputs[0] * float("nan"),) if module.training and len(calls) > 9 else None

        model.register_forward_pre_hook(poison)
        return real(model, *arguments)

    monkeypatch.setattr(trial, "train_loop", poisoning)
    run = train(trained[0], output=tmp_path / "run", overrides=(*small, EVERY_STEP), quiet=True)
    stopped = run.result["stopped"]
    assert run.exit_code == 1 and (stopped["kind"], stopped["what"], stopped["epoch"]) == ("not_finite", "loss", 2)
    assert f"the loss is not finite in epoch 2, step {stopped['step']} (photos train/" in stopped["text"]
    assert "learning_rate" in stopped["text"] and len(stopped["photos"]) == 8
    with pytest.raises(UsageError, match=r"finished \(the loss is not finite.*; resuming would fail again"):
        RunFolder(run.path).read_finished_result()
    for path in (run.path / "checkpoint").glob("*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())


def test_a_full_disk_ends_with_a_sentence_and_the_run_goes_on_after_room_was_made(trained, tmp_path, small, at_step):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a file system of its own cannot be mounted here ({mounted.stderr.decode().strip()})")
    try:

        def fill():
            with open(disk / "other", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(100_000))

        at_step(STEPS_PER_EPOCH + 2, fill)
        with pytest.raises(
            MachineError, match=r"cannot continue \(No space left on device.*resume with fieldguide"
        ) as error:
            train(trained[0], output=disk / "run", overrides=small, quiet=True)
        assert error.value.exit_code == 1
        with pytest.raises(MachineError, match="No space left"):  # it is still full
            resume(disk / "run", quiet=True)
        (disk / "other").unlink()
        resume(disk / "run", quiet=True)
        assert same(trained[1].path, disk / "run")
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried"), OSError(30, "Read-only file system")]
)
def test_what_the_machine_does_is_a_sentence_and_the_run_can_go_on(trained, tmp_path, small, at_step, error):
    def fail():
        raise error

    at_step(STEPS_PER_EPOCH + 2, fail)
    with pytest.raises(MachineError, match=r"out of memory|Read-only file system") as told:
        train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    assert f"resume with fieldguide train --resume {tmp_path / 'run'}" in str(told.value)
    resume(tmp_path / "run", quiet=True)
    assert same(trained[1].path, tmp_path / "run")


def test_a_mistake_of_the_program_keeps_its_traceback_and_what_was_saved(trained, tmp_path, small, at_step):
    def fail():
        raise ZeroDivisionError

    at_step(STEPS_PER_EPOCH + 2, fail)
    with pytest.raises(ZeroDivisionError):
        train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    resume(tmp_path / "run", quiet=True)
    assert same(trained[1].path, tmp_path / "run")


def test_a_second_process_on_a_run_is_refused(interrupted, at_step):
    _, run = interrupted
    told = []

    def again():
        with pytest.raises(UsageError, match=f"another process is using it \\(process {os.getpid()} on") as error:
            resume(run, quiet=True)
        told.append(error)

    at_step(1, again)
    assert resume(run, quiet=True).exit_code == 0 and told
    assert not (run / ".lock").exists()


@pytest.mark.slow
def test_folds_go_on_where_they_were(tmp_path, make_photos, small, at_step):
    photos = make_photos(tmp_path / "photos", {"ash": 8, "oak": 8})
    overrides = (*small, "split.folds=2", "training.phases.0.max_epochs=2", "training.rounds=0")
    train(photos, output=tmp_path / "whole", overrides=overrides, quiet=True)
    at_step(6, lambda: signal.raise_signal(signal.SIGTERM))
    assert train(photos, output=tmp_path / "cut", overrides=overrides, quiet=True).exit_code == 143
    stopped = tmp_path / "cut/fold-2/result.json"
    assert not (tmp_path / "cut/result.json").exists() and (stopped.exists() or not (tmp_path / "cut/fold-2").exists())
    assert resume(tmp_path / "cut", quiet=True).exit_code == 0
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "cut")]
    assert without_times(results[0]) == without_times(results[1])
    for name in ("out_of_fold.csv", "out_of_fold.npz", "folds.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    with pytest.raises(UsageError, match="is finished"):
        resume(tmp_path / "cut", quiet=True)


def test_folds_over_other_photos_do_not_go_on(tmp_path, make_photos, small, at_step):
    photos = make_photos(tmp_path / "photos", {"ash": 8, "oak": 8})
    overrides = (*small, "split.folds=2", "training.phases.0.max_epochs=2", "training.rounds=0")
    at_step(2, lambda: signal.raise_signal(signal.SIGTERM))
    assert train(photos, output=tmp_path / "run", overrides=overrides, quiet=True).exit_code == 143
    shutil.move(photos / "ash/003.png", photos / "ash/other.png")
    with pytest.raises(PhotosError, match="changed since this cross-validation began") as error:
        resume(tmp_path / "run", quiet=True)
    assert "ash/003.png" in str(error.value) and "ash/other.png" in str(error.value)


@pytest.mark.slow
def test_an_experiment_goes_on_with_its_trials_by_itself(trained, tmp_path, small, at_step):
    at_step(STEPS_PER_EPOCH + 2, lambda: signal.raise_signal(signal.SIGTERM))
    first = experiment(trained[0], ["resnet34-adam"], tmp_path / "table", overrides=small, quiet=True)
    assert first.exit_code == 143
    again = experiment(trained[0], ["resnet34-adam"], tmp_path / "table", overrides=small, quiet=True)
    assert again.exit_code == 0 and len(again.rows) == 1
    run = tmp_path / "table/resnet34-adam"
    one, other = (path / "bundle/model.safetensors" for path in (trained[1].path, run))
    assert one.read_bytes() == other.read_bytes()
    assert not list((tmp_path / "table").glob("*.unfinished-*"))


@pytest.mark.torture
def test_killed_at_random_moments_it_ends_bit_for_bit_as_the_uninterrupted_one(tmp_path):
    draw = random.Random(5)
    with Torture(tmp_path) as torture:
        reference = torture.reference()
        for number in range(3):
            assert torture.trial(f"run-{number}", reference, EVERY_STEP, draw) == []
        assert sum(torture.hits.values()) >= 3


@pytest.mark.slow
@pytest.mark.torture
def test_killed_at_twenty_random_moments(tmp_path):
    draw = random.Random(20)
    with Torture(tmp_path) as torture:
        reference = torture.reference()
        assert [torture.trial(f"run-{number}", reference, EVERY_STEP, draw) for number in range(20)] == [[]] * 20


def test_the_comparison_can_fail(trained, tmp_path):
    other = shutil.copytree(trained[1].path, tmp_path / "other")
    assert differences(trained[1].path, other) == []
    result = json.loads((other / "result.json").read_text())
    (other / "result.json").write_text(json.dumps(result | {"best_epoch": 99}))
    (other / ".writing-x").write_text("")
    assert differences(trained[1].path, other) == ["result.json", ".writing-x"]
    assert issubclass(TrainingError, ValueError)


@pytest.mark.slow
def test_folds_go_on_with_what_auto_came_to_in_the_first(tmp_path, make_photos, small, at_step, monkeypatch):
    photos = make_photos(tmp_path / "photos", {"ash": 8, "oak": 8})
    overrides = (*small, "split.folds=2", "training.phases.0.max_epochs=2", "training.rounds=0")
    monkeypatch.setattr("fieldguide.assemble.sizing.fitting", lambda *_: 4)
    at_step(2, lambda: signal.raise_signal(signal.SIGTERM))
    assert train(photos, output=tmp_path / "run", overrides=overrides, quiet=True).exit_code == 143
    monkeypatch.setattr("fieldguide.assemble.sizing.fitting", lambda *_: 8)  # more memory is free by now
    assert resume(tmp_path / "run", quiet=True).exit_code == 0
    for fold in ("fold-1", "fold-2"):
        assert "micro_batch_size: 4" in (tmp_path / "run" / fold / "recipe.yaml").read_text()
        assert json.loads((tmp_path / "run" / fold / "result.json").read_text())["micro_batch_size"] == 4


def test_a_missing_report_of_a_finished_run_is_written_and_no_figure_is_lost(trained, tmp_path):
    run = shutil.copytree(trained[1].path, tmp_path / "run")
    evaluate(run, trained[0], part="test", quiet=True)
    before = (run / "result.json").read_bytes()
    (run / "report.html").unlink()
    assert resume(run, quiet=True).exit_code == 0
    assert (run / "report.html").exists() and (run / "result.json").read_bytes() == before
    assert json.loads(before)["test_evaluations"] == 1


@pytest.mark.slow
def test_a_signal_in_the_last_validation_ends_it_with_its_exit_code(trained, tmp_path, small, monkeypatch):
    real = Checkpoints.training_done
    with monkeypatch.context() as patched, pytest.raises(Interrupted, match="stopped at once by SIGTERM") as error:
        patched.setattr(Checkpoints, "training_done", lambda *all: (signal.raise_signal(signal.SIGTERM), real(*all)))
        train(trained[0], output=tmp_path / "run", overrides=small, quiet=True)
    assert error.value.exit_code == 143
    resume(tmp_path / "run", quiet=True)
    assert same(trained[1].path, tmp_path / "run")


def test_where_no_epoch_was_finished_nobody_is_sent_to_a_model_that_is_not_there(trained, tmp_path, small, monkeypatch):
    real, calls = trial.train_loop, []

    def poisoning(model, *arguments):
        def poison(module, inputs):
            calls.append(1)
            return (inputs[0] * float("nan"),) if len(calls) > 3 else None

        model.register_forward_pre_hook(poison)
        return real(model, *arguments)

    monkeypatch.setattr(trial, "train_loop", poisoning)
    with pytest.raises(TrainingError, match="the loss is not finite in epoch 1, step") as error:
        train(trained[0], output=tmp_path / "run", overrides=(*small, EVERY_STEP), quiet=True)
    assert "train PHOTOS --set training.learning_rate=0.0003 -o ANOTHER" in str(error.value)


@pytest.mark.slow
def test_folds_that_go_on_share_the_minutes_as_when_they_began(tmp_path, make_photos, small, at_step, monkeypatch):
    photos = make_photos(tmp_path / "photos", {"ash": 8, "oak": 8})
    overrides = (*small, "split.folds=2", "training.phases.0.max_epochs=2", "training.rounds=0")
    at_step(2, lambda: signal.raise_signal(signal.SIGTERM))
    assert train(photos, output=tmp_path / "run", overrides=overrides, minutes=50, quiet=True).exit_code == 143
    shares, real = [], resume_command.seconds_for

    def seconds_for(minutes, began=None, trainings=1):
        shares.append((minutes, trainings))
        return real(minutes, began, trainings)

    for module in (resume_command, go_on_module):
        monkeypatch.setattr(module, "seconds_for", seconds_for)
    assert resume(tmp_path / "run", quiet=True).exit_code == 0
    assert shares == [(50, 2), (50, 2)]  # the fold that goes on, and the one that had not begun


def test_a_run_of_format_1_goes_on_to_the_same_end(interrupted, trained):
    """What a version that wrote sentences in place of kinds left behind: request, result and checkpoints."""
    _, run = interrupted
    request = json.loads((run / "resume.json").read_text())
    (run / "resume.json").write_text(json.dumps(request | {"format": 1}))
    result = json.loads((run / "result.json").read_text())
    del result["format"]
    old = {"stopped": "interrupted by SIGTERM", "spoilt": False}
    stages = [stage | {"reason": "interrupted by SIGTERM"} for stage in result["stages"]]
    (run / "result.json").write_text(json.dumps(result | old | {"stages": stages}))
    for path in (run / "checkpoint").glob("*.json"):
        body = json.loads(path.read_text())["checkpoint"] | {"format": 1}
        checksum = digest(json.dumps(body, sort_keys=True).encode())
        path.write_text(json.dumps({"sha256": checksum, "checkpoint": body}))
    assert report(run).is_file() and "interrupted by SIGTERM" in report(run).read_text()
    assert resume(run, quiet=True).exit_code == 0 and same(trained[1].path, run)
    assert RunFolder(run).read_result()["stopped"] is None
