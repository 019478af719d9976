"""Trials: a training is killed once or several times, gone on with, and held against one that was never interrupted."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import write_photo

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "model.backbone=test_resnet",
    "model.weights=none",
    "model.head=mlp",
    "rules.backbones=null",
    "data.image_size_px=32",
    "training.batch_size=8",
    "training.learning_rate=0.003",
    "training.phases.0.max_epochs=3",
    "training.phases.1.max_epochs=2",
    "training.rounds=1",
    "training.rounds.max_epochs=2",
)
EVERY_STEP, EVERY_EPOCH = "training.checkpoint_every_minutes=0", "training.checkpoint_every_minutes=10"
COUNTS = {"train/ash": 9, "train/oak": 9, "val/ash": 4, "val/oak": 4}
TIMES = ("seconds", "images_per_second", "waited_for_data", "checkpoints")
NOTHING_TO_GO_ON_WITH, MISTAKE = 3, 4


@dataclass(frozen=True)
class Reference:
    """The uninterrupted training: how long it took and how often it called on the file system."""

    run: Path
    seconds: float
    calls: int


class Torture:
    """A server of victims and the trials with them. Used as a context; the server ends with it."""

    def __init__(self, scratch):
        self.scratch = Path(scratch)
        self.photos = self.scratch / "photos"
        for place, (folder, count) in enumerate(COUNTS.items()):
            for number in range(count):
                hue = 1 + folder.endswith("oak")
                write_photo(self.photos / folder / f"{number:03d}.png", hue, 1000 * (place + 1) + number)
        self.hits = Counter()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()

    def train(self, run, setting, *, go_on=False, **end):
        """One victim; `after_s` or `at_call` say when it ends. Its answer, with what it left in its report."""
        report = run.with_name(f"{run.name}.report")
        report.unlink(missing_ok=True)
        job = {
            "photos": str(self.photos), "run": str(run), "settings": [*SETTINGS, setting], "go_on": go_on,
            "log": str(run.with_name(f"{run.name}.log")), "report": str(report), **end,
        }  # fmt: skip
        print(json.dumps(job), file=self._server.stdin, flush=True)
        answer = json.loads(self._server.stdout.readline())
        assert answer["code"] != MISTAKE, Path(job["log"]).read_text()
        return answer | {"report": report.read_text() if report.exists() else ""}

    def reference(self, setting=EVERY_STEP):
        """An uninterrupted training."""
        run, began = self.scratch / f"reference-{setting.rpartition('=')[2]}", time.monotonic()
        answer = self.train(run, setting)
        assert answer["code"] == 0
        return Reference(run, time.monotonic() - began, int(answer["report"].split()[1]))

    def trial(self, name, reference, setting, draw):
        """Kills one training up to three times, lets it end, and returns what differs from the reference."""
        run, go_on = self.scratch / name, False
        for _ in range(draw.choice((1, 1, 2, 3))):
            if draw.random() < 0.5:  # the reference runs in a cold process: the others take half of its time
                end = {"after_s": draw.uniform(0, reference.seconds / 2)}
            else:
                end = {"at_call": draw.randint(1, reference.calls)}
            answer = self.train(run, setting, go_on=go_on, **end)
            if answer["code"] == NOTHING_TO_GO_ON_WITH:
                answer = self.train(run, setting, **end)
            self._count(answer, "after_s" in end, run)
            go_on = True
            if not answer["killed"]:
                break
        else:
            answer = self.train(run, setting, go_on=True)
            if answer["code"] == NOTHING_TO_GO_ON_WITH:
                answer = self.train(run, setting)
        return [f"ended with {answer}"] if answer["code"] else differences(reference.run, run)

    def _count(self, answer, by_time, run):
        if not answer["killed"]:
            self.hits["ended before it could be killed"] += 1
        elif by_time:
            self.hits[f"by the clock, {where(run)}"] += 1
        else:
            self.hits[f"in {answer['report']}"] += 1


def where(run):
    """Roughly how far a killed run had come."""
    if not (run / "resume.json").exists():
        return "before it began"
    if not list((run / "checkpoint").glob("*.json")):
        return "before its first saved step"
    return "after the training" if (run / "predictions.npz").exists() else "while it trained"


def without_times(value):
    """A result or an epoch without what a clock measured."""
    return {key: entry for key, entry in value.items() if key not in TIMES}


def differences(one, other):
    """What differs between two runs, but for times."""
    found = [
        name
        for name in ("bundle/model.safetensors", "bundle/model.json", "predictions.npz", "split.csv", "recipe.yaml")
        if (one / name).read_bytes() != (other / name).read_bytes()
    ]
    results = [without_times(json.loads((run / "result.json").read_text())) for run in (one, other)]
    histories = [
        [without_times(json.loads(line)) for line in (run / "history.jsonl").read_text().splitlines()]
        for run in (one, other)
    ]
    found += ["result.json"] * (results[0] != results[1]) + ["history.jsonl"] * (histories[0] != histories[1])
    left = [path.name for path in other.rglob(".*") if path.name != ".lock"]  # the lock's file binds nobody
    return found + left + ["report.html"] * (not (other / "report.html").exists())


def main(trials, scratch, seed=0):
    """Prints what was hit and what differed; returns how many trials differed."""
    draw, bad = random.Random(seed), 0
    with Torture(scratch) as torture:
        references = {setting: torture.reference(setting) for setting in (EVERY_STEP, EVERY_EPOCH)}
        for number in range(trials):
            setting = draw.choice((EVERY_STEP, EVERY_EPOCH))
            found = torture.trial(f"run-{number}", references[setting], setting, draw)
            bad += bool(found)
            if found:
                print(f"trial {number}: {found}", flush=True)
        print(f"{trials} trainings killed {sum(torture.hits.values())} times:")
        for what, count in sorted(torture.hits.items()):
            print(f"{count:>6}  {what}")
        print(f"{trials - bad} of {trials} ended bit for bit as the uninterrupted one")
    return bad
