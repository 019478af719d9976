"""A training by several processes is that of one process: the order of sums is all that differs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from fieldguide.commands.together import launched
from fieldguide.errors import UsageError
from fieldguide.world import processes
from tests.conftest import write_photo
from tests.torture.runner import differences, without_times
from tests.world.group import Group

COUNTS = {
    "train/ash": 9, "train/elm": 2, "train/oak": 11, "val/ash": 5, "val/elm": 1, "val/oak": 5,
}  # fmt: skip
SETTINGS = (
    "model.backbone=test_resnet",
    "model.head=linear",
    "model.head_dropout=0",
    "rules.backbones=null",
    "data.image_size_px=32",
    "training.batch_size=5",
    "training.optimizer=sgd",
    "training.momentum=0.9",
    "training.learning_rate=0.003",
    "training.phases=[{name: only, augmentation: standard, max_epochs: 4, patience_epochs: 4}]",  # 20 steps
    "training.rounds=0",
)


@pytest.fixture(scope="module")
def group():
    with Group() as made:
        yield made


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for place, (folder, count) in enumerate(COUNTS.items()):
        for number in range(count):
            hue = 1 + ("ash", "elm", "oak").index(folder.rpartition("/")[2])
            write_photo(root / folder / f"{number:03d}.png", hue, 1000 * (place + 1) + number)
    return root


@pytest.fixture(scope="module")
def words(photos, weights):
    """words(run, "training.seed=1"): the arguments of a training."""

    def arrange(run, *settings):
        sets = [word for each in (*SETTINGS, *settings) for word in ("--set", each)]
        where = ("train", photos, "-o", run, "--weights", weights)
        return (*where, "--recipe", "resnet34-sgd", "--device", "cpu", *sets)

    return arrange


@pytest.fixture(scope="module")
def trained(group, words, tmp_path_factory):
    """trained(2, "training.ema_decay=0.9"): the run of a training by two processes; each is trained once."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def train(count, *settings, codes=None, **how):
        key = (count, settings, repr(how))
        if key not in made:
            run = folder / f"run-{len(made)}"
            answer = group.run(count, *words(run, *settings), log=folder / f"{run.name}.log", **how)
            made[key] = run, answer
        run, answer = made[key]
        assert answer["codes"] == (codes or [0] * count), "\n".join(
            (folder / f"{run.name}.log.{rank}").read_text()[-3000:] for rank in range(count)
        )
        return run

    return train


def weights(run):
    return load_file(run / "bundle/model.safetensors")


def history(run):
    return [without_times(json.loads(line)) for line in (run / "history.jsonl").read_text().splitlines()]


def farthest(one, other):
    mine, others = weights(one), weights(other)
    assert mine.keys() == others.keys()
    return max(float((mine[name].double() - others[name].double()).abs().max()) for name in mine)


def assert_same_training(one, other, tolerance, epochs=4):
    assert farthest(one, other) <= tolerance
    for mine, its in zip(history(one), history(other), strict=True):
        for part in ("training", "validation"):
            assert mine[part]["images"] == its[part]["images"]
            assert mine[part]["loss"] == pytest.approx(its[part]["loss"], abs=1e-3 if tolerance > 1e-5 else 1e-4)
    assert len(history(one)) == epochs


def batch_norm(mode):
    return f"training.phases.0.batch_norm={mode}"


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])  # the last batch of an epoch has 2 photos, a class has 2
@pytest.mark.parametrize("mode", ["frozen", "folded"])
def test_weights_are_those_of_one_process(trained, mode, count):
    one, several = trained(1, batch_norm(mode)), trained(count, batch_norm(mode))
    assert_same_training(one, several, 1e-5)
    if mode == "frozen":
        assert farthest(one, trained(1, batch_norm(mode), "training.seed=1")) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_batch_normalisation_that_trains_sees_the_photos_of_all_processes(trained, count):
    settings = (batch_norm("train"), "training.batch_size=8", "training.phases.0.max_epochs=7")  # 21 steps
    settings += ("training.seed=3",)  # in which no activation is so near to 0 that rounding decides its sign
    assert_same_training(trained(1, *settings), trained(count, *settings), 1e-4, epochs=7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        (
            *("training.mixup_alpha=0.3", "training.cutmix_alpha=1.0", "training.mix_probability=0.8"),
            *("training.ema_decay=0.9", "training.gradient_clip_norm=0.1", "training.micro_batch_size=2"),
        ),
        (
            *("augmentation.engine=fused", "execution=fast", "training.imbalance=balanced_sampling"),
            *("training.soup=greedy", "training.soup_candidates=2", "training.precision=fp32"),
        ),
    ],
    ids=["exact", "fast"],
)
def test_that_holds_for_all_that_looks_at_a_batch(trained, settings):
    settings = (batch_norm("frozen"), *settings)
    assert_same_training(trained(1, *settings), trained(3, *settings), 1e-5)


def test_each_validation_photo_counts_once_and_the_run_remembers_the_number_of_processes(trained):
    run = trained(3, batch_norm("frozen"))
    assert {epoch["validation"]["images"] for epoch in history(run)} == {11}  # and not 12, the next multiple of 3
    assert json.loads((run / "environment.json").read_text())["processes"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["frozen", "train"])
def test_memory_that_is_short_in_one_process_halves_all(trained, mode):
    settings = (batch_norm(mode), "training.batch_size=8")
    run = trained(2, *settings, memory={"1": 3})  # of its part of 4
    newest = max((run / "checkpoint").glob("*.json"))
    assert json.loads(newest.read_text())["checkpoint"]["state"]["halved"] == [[1, 1, 2]]
    if mode == "frozen":  # else batch normalisation sees smaller pieces
        assert_same_training(trained(1, *settings), run, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ranks", "codes"),
    [("SIGINT", (0, 1, 2), [130, 0, 0]), ("SIGTERM", (0, 1, 2), [143, 0, 0]), ("SIGKILL", (1,), [1, -9, 1])],
)
def test_a_signal_ends_all_within_seconds_and_the_run_resumes_with_another_number(
    group, trained, words, tmp_path, name, ranks, codes
):
    settings = (batch_norm("frozen"), "training.checkpoint_every_minutes=0")
    whole = trained(1, batch_norm("frozen"))
    run, log = tmp_path / "run", tmp_path / "log"
    answer = group.run(3, *words(run, *settings), log=log, kill=(name, ranks, str(run / "checkpoint/000009.json")))
    assert answer["codes"] == codes and answer["seconds"] < 20, (tmp_path / "log.0").read_text()
    assert len(history(run)) < 4
    resumed = group.run(2, "train", "--resume", run, log=log)
    assert resumed["codes"] == [0, 0], (tmp_path / "log.0").read_text()
    assert_same_training(whole, run, 1e-5)


def test_a_photo_that_one_process_cannot_read_stops_all_and_is_named(group, photos, weights, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    sets = [word for each in SETTINGS for word in ("--set", each)]
    words = (
        "train",
        tmp_path / "photos",
        "-o",
        tmp_path / "run",
        "--recipe",
        "resnet34-sgd",
        "--weights",
        weights,
        *sets,
    )
    first = tmp_path / "run/checkpoint/000001.json"
    answer = group.run(2, *words, log=tmp_path / "log", remove=(str(tmp_path / "photos/train"), str(first)))
    text = (tmp_path / "log.0").read_text()
    assert answer["codes"] == [1, 0] and "it was readable when the training began" in text, text


def test_mistakes_end_all_processes_with_one_message(group, tmp_path):
    answer = group.run(2, "train", tmp_path / "none", "-o", tmp_path / "run", log=tmp_path / "log")
    assert answer["codes"] == [2, 0]
    assert "error: " in (tmp_path / "log.0").read_text() and not (tmp_path / "log.1").read_text()


def test_a_number_of_processes_that_cannot_be_is_refused(monkeypatch):
    with pytest.raises(UsageError, match="processes 0: must be 1 or more"):
        launched(0)
    assert launched(1) is None
    monkeypatch.setattr(processes, "_team", processes.Team(0, 4))
    assert launched(4) is None
    with pytest.raises(UsageError, match="torchrun started 4 processes; leave processes out"):
        launched(2)


def test_a_device_that_processes_cannot_share_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "_team", processes.Team(0, 4))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert "this machine has 2 GPUs" in processes.problem_with_device(torch.device("cuda:0"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert "CUDA_VISIBLE_DEVICES" in processes.problem_with_device(torch.device("cuda:1"))
    assert "--device mps" in processes.problem_with_device(torch.device("mps"))
    assert processes.problem_with_device(torch.device("cpu")) is None


def command(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FIELDGUIDE_ALLOCATOR": "system"}
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_torchrun_with_one_process_gives_the_same_bits(trained, words, tmp_path):
    own = words(tmp_path / "run", batch_norm("frozen"))
    process = command("torch.distributed.run", "--standalone", "--nproc-per-node", 1, "-m", "fieldguide", *own)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert differences(trained(1, batch_norm("frozen")), tmp_path / "run") == []


@pytest.mark.slow
def test_processes_are_started_by_an_option_and_ctrl_c_saves(group, trained, words, tmp_path):
    run = tmp_path / "run"
    process = command("fieldguide", *words(run, batch_norm("frozen")), "--processes", 2)
    while not (run / "checkpoint/000001.json").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted by SIGINT" in told and "Traceback" not in told, told
    assert len(history(run)) < 4 and json.loads((run / "result.json").read_text())["stopped"]["signal"] == "SIGINT"
    assert group.run(3, "train", "--resume", run, log=tmp_path / "log")["codes"] == [0, 0, 0]
    assert_same_training(trained(1, batch_norm("frozen")), run, 1e-5)
