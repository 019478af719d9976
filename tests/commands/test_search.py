"""A search is resumable, bounded by rules, and judged by photos that chose nothing."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fieldguide import UsageError
from fieldguide.commands import search as command
from fieldguide.commands.search import search
from fieldguide.commands.search_ends import _compared, _sentence
from fieldguide.data.split.partition import read_split

SPACE = """
training.plan: [null]
training.optimizer: [adam]
training.schedule: [cosine]
training.learning_rate: {from: 0.0005, to: 0.01, scale: log}
training.batch_size: [8, 16]
training.phases.0.augmentation: [none, mild]
training.max_epochs: [2]
training.phases.0.max_epochs: [2]
training.rounds: [0]
model.backbone: [test_resnet]
"""
OVERRIDES = ("model.backbone=test_resnet", "model.weights=none", "model.features=last", "data.image_size_px=32")


COMMAND = (  # as on the command line, but the search may take longer than the winner
    "from fieldguide.commands import search; search.SHARE_OF_SEARCH = 40; from fieldguide.cli import main; main()"
)


@pytest.fixture
def space(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path / "space.yaml"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_it_ends_with_the_winner_beside_auto_and_resumes(trained, space, local_ray, tmp_path, capsys, monkeypatch):
    pytest.importorskip("optuna", reason="needs pip install 'fieldguide[ray]'")
    monkeypatch.setattr(command, "SHARE_OF_SEARCH", 40)  # trials end the search, and `auto` is short
    how = {"space": space, "minutes": 0.15, "trials": 3, "seeds": 2, "on": "ray", "overrides": OVERRIDES}
    found = search(trained[0], tmp_path / "s", **how)
    folder, told = tmp_path / "s", capsys.readouterr().out
    assert "searching for 6 min: 3 fields\n" in told  # those with more than one value
    assert "Configuration for experiment" not in told and "tensorboard" not in told  # what Tune says is not for people
    tried = json.loads((folder / "tried.json").read_text())
    best = f"3 trials, the best is {tried[0]['name']} with {100 * found.chose:.1f} %: training.learning_rate 0."
    assert best in told and "training.plan" not in told  # fields with one value are not told
    assert len(tried) == 3 and found.chose == max(each["accuracy"] for each in tried if each["accuracy"])
    assert found.values == tried[0]["values"] and found.values["training.batch_size"] in (8, 16)
    assert 0.0005 <= found.values["training.learning_rate"] <= 0.01
    # no run saw the photos that judge, and none chose by them
    judged = 12 - len(read_split(folder / "split.csv").part("val"))
    assert json.loads((folder / "result.json").read_text())["photos_that_judge"] == judged == 6
    for run in ("winner-seed1", "winner-seed2", "auto", f"trials/{tried[0]['name']}"):
        assert read_split(folder / run / "split.csv").fingerprint() == read_split(folder / "split.csv").fingerprint()
    assert len(found.judged) == 2 and found.sentence in told and " auto" in found.sentence
    result = json.loads((folder / "result.json").read_text())
    assert set(result["seconds_of_trainings"]) == {"auto", "winner-seed1", "winner-seed2"}
    took = result["seconds_of_search"] + sum(result["seconds_of_trainings"].values())
    took = (took - result["seconds_of_trainings"]["auto"]) / 60
    assert ("trainings took" in found.sentence) == (
        took > 0.15
    ) and f"for {len(found.judged)} trainings of the winner" in told
    assert found.difference[0] == pytest.approx(sum(found.judged) / 2 - found.auto)
    again = search(trained[0], folder, resume=True, **how)
    assert (again.values, again.judged, again.auto) == (found.values, found.judged, found.auto)
    with pytest.raises(UsageError, match="exists already; choose another folder, or go on with"):
        search(trained[0], folder, **how)
    with pytest.raises(UsageError, match="is of another space"):
        search(trained[0], folder, resume=True, **how | {"overrides": (*OVERRIDES, "training.weight_decay=0.1")})


def judged(folder):
    """Names of the trials that ended an epoch."""
    return {file.parent.name for file in folder.glob("trials/*/history.jsonl")}


@pytest.mark.torture
def test_killed_and_interrupted_it_loses_no_trial(trained, space, tmp_path):
    pytest.importorskip("optuna", reason="needs pip install 'fieldguide[ray]'")
    folder, sets = tmp_path / "s", [word for each in OVERRIDES for word in ("--set", each)]
    words = [
        "search",
        trained[0],
        "-o",
        folder,
        "--space",
        space,
        "--minutes",
        0.25,
        "--trials",
        4,
        "--seeds",
        2,
        *sets,
    ]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}

    def begun(*more):
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *map(str, (*words, *sets, *more))],
            env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def wait_for(count, process):
        while len(judged(folder)) < count:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        return judged(folder)

    process = begun()
    kept = wait_for(1, process)
    process.kill()
    process.communicate(timeout=60)
    process = begun("--resume")
    kept |= wait_for(len(kept) + 1, process)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in told and "Traceback" not in told, told
    assert not (folder / "tried.json").exists() and not (folder / "winner.yaml").exists()
    told, _ = begun("--resume").communicate(timeout=300)
    tried = json.loads((folder / "tried.json").read_text())
    assert len(tried) == 4 and all(each["accuracy"] for each in tried), told
    assert kept <= {each["name"] for each in tried} and " epochs, best accuracy" in told
    result = json.loads((folder / "result.json").read_text())
    assert len(result["judged"]) == 2 and result["values"] == tried[0]["values"] and result["sentence"] in told


def test_a_field_that_the_recipe_would_ignore_and_a_value_against_the_rules_are_refused(trained, tmp_path, space):
    pytest.importorskip("ray", reason="needs pip install 'fieldguide[ray]'")
    for line, words in (
        ("training.momentum: [0.8, 0.9]", r"first value of each field: training\.momentum would be ignored"),
        ("training.nonsense: [1, 2]", r"first value of each field: .*nonsense"),
        ("training.weight_decay: {from: 0.1, to: 50.5}", r"training\.weight_decay: 50\.5: "),
        ("data.image_size_px: [32, 4]", r"data\.image_size_px: 4: "),
    ):
        space.write_text(SPACE + line + "\n")
        with pytest.raises(UsageError, match=words):
            search(trained[0], tmp_path / "s", space=space, minutes=1, overrides=OVERRIDES[1:3], quiet=True)
        assert not (tmp_path / "s").exists()


def test_a_value_that_breaks_a_rule_is_refused_and_leaves_nothing(trained, tmp_path, space):
    pytest.importorskip("ray", reason="needs pip install 'fieldguide[ray]'")
    space.write_text(SPACE.replace("[test_resnet]", "[test_resnet, test_byobnet]"))
    overrides = (*OVERRIDES[1:], "rules.backbones=[test_resnet]")  # a backbone that is set would fix the field
    with pytest.raises(UsageError, match=r"space: model\.backbone: test_byobnet: .*rules\.backbones"):
        search(trained[0], tmp_path / "s", space=space, minutes=1, overrides=overrides, quiet=True)
    assert not (tmp_path / "s").exists()


def test_set_fixes_a_field_of_the_space_or_refuses_if_nothing_is_left(space, capsys):
    screen = command.Screen()
    given = ("training.batch_size=8", {"training": {"learning_rate": 0.001}}, "data.image_size_px=32")
    left = command._searched_fields(space, given, screen)
    assert "training.batch_size" not in left and "training.learning_rate" not in left
    assert "training.phases.0.augmentation" in left
    said = "fixed by --set, so not searched: training.batch_size, training.learning_rate"
    assert said.replace("--set", "overrides") in capsys.readouterr().out
    with pytest.raises(UsageError, match="nothing to search"):
        command._searched_fields(space, (*given, "training.phases.0.augmentation=none"), screen)


def test_weights_that_fit_only_one_backbone_of_the_space_are_refused(trained, tmp_path, space, two_weights):
    pytest.importorskip("ray", reason="needs pip install 'fieldguide[ray]'")
    space.write_text(SPACE.replace("[test_resnet]", "[test_resnet, test_byobnet]"))
    how = {"space": space, "minutes": 1, "weights": two_weights / "test_resnet.safetensors", "quiet": True}
    overrides = [each for each in OVERRIDES if not each.startswith(("model.weights", "model.backbone"))]
    with pytest.raises(UsageError, match=r"model\.backbone: test_byobnet: .* of the backbone; .*; choose with"):
        search(trained[0], tmp_path / "s", overrides=(*overrides, "rules.backbones=null"), **how)
    assert not (tmp_path / "s").exists()


def test_options_that_do_not_go_together_are_all_told(trained, tmp_path):
    pytest.importorskip("ray", reason="needs pip install 'fieldguide[ray]'")
    with pytest.raises(UsageError) as caught:
        search(trained[0], tmp_path / "s", minutes=0, trials=0, seeds=0, cpus_per_trial=2, quiet=True)
    assert len(caught.value.problems) == 4
    with pytest.raises(UsageError, match="a search runs on Ray"):
        command._demand("slurm", command.Share(), 1, None, 1)


def test_the_sentence_follows_the_interval():
    draw = np.random.default_rng(0)
    auto = draw.random(400) < 0.7
    better = np.stack([auto | (draw.random(400) < 0.3) for _ in range(3)])
    mean, low, high = _compared(better, auto)
    assert 0 < low < mean < high and "beats auto in the same 5 minutes: +" in _sentence((mean, low, high), 5, 5)
    assert "is worse than auto" in _sentence(_compared(np.stack([auto & better[0][::-1]]), auto), 5, 4)
    mean, low, high = _compared(np.stack([auto, auto]), auto)
    assert mean == 0 and -0.02 < low < 0 < high < 0.02
    assert "is not shown to beat auto" in _sentence((mean, low, high), 5, 5)
    # its trainings are not cut off, so it may have had more time, and then the sentence says so
    longer = _sentence((mean, low, high), 5, 7.5)
    assert "is not shown to beat auto: " in longer and "same 5 minutes" not in longer
    assert longer.endswith("; search and trainings took 7.5 minutes, auto got 5")


def test_the_default_space_fits_the_default_recipe():
    command._demand_space(command.read_space("default"), "auto", ("model.weights=none",), None)
