"""Ranks, workers and actors killed at random, for ten minutes at most: `python -m tests.torture.many [count] [seed]`.

Each turn is a prediction on Ray, an experiment on Ray, or a training of two processes, of which something is killed
once or several times. Its rows, its runs or its run are held against those of an undisturbed one.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import polars

from tests.conftest import write_photo
from tests.torture.runner import COUNTS, ROOT, SETTINGS, differences

MOST_SECONDS = 600
RECIPE = "resnet34-adam"
PHOTOS = 120
KINDS = ("prediction", "experiment", "training")
VICTIMS = {"prediction": "ray::MapWorker", "experiment": "ray::in_folder"}


class Many:
    """The undisturbed ends, and turns that are held against them."""

    def __init__(self, scratch: Path, draw: random.Random) -> None:
        self.scratch, self.draw, self.hits = scratch, draw, Counter()
        self.photos, self.new = scratch / "photos", scratch / "new"
        for place, (folder, count) in enumerate(COUNTS.items()):
            for number in range(count):
                hue = 1 + folder.endswith("oak")
                write_photo(self.photos / folder / f"{number:03d}.png", hue, 1000 * (place + 1) + number)
        for number in range(PHOTOS):
            write_photo(self.new / f"{number:03d}.png", number % 2, 9000 + number)
        (self.new / "007.png").write_bytes(b"no photo")

    def prepare(self) -> None:
        """The undisturbed ends."""
        import fieldguide

        self.settings = [*SETTINGS, "training.checkpoint_every_minutes=0", "training.batch_size=8"]
        fieldguide.experiment(self.photos, [RECIPE], self.scratch / "e", overrides=self.settings, quiet=True)
        self.run = self.scratch / "e" / RECIPE
        fieldguide.predict(self.run, self.new, self.scratch / "rows.parquet", engine="plain", quiet=True)
        self.rows = polars.read_parquet(self.scratch / "rows.parquet")
        code, _ = self._trained(self.scratch / "t")
        assert code == 0, "the undisturbed training of two processes failed"

    def turn(self, kind: str, number: int) -> list[str]:
        """What differs after one turn."""
        return {"prediction": self._prediction, "experiment": self._experiment, "training": self._training}[kind](
            number
        )

    def _prediction(self, number: int) -> list[str]:
        import fieldguide
        from fieldguide.commands import predict_elsewhere

        predict_elsewhere.PIECE_PHOTOS = 32
        out = self.scratch / f"p{number}"
        with self._killing("prediction", most=2):
            fieldguide.predict(self.run, self.new, out, engine="plain", on="ray", quiet=True)
        found = polars.concat([polars.read_parquet(file) for file in sorted(out.glob("*.parquet"))])
        return [] if found.equals(self.rows) else ["rows"]

    def _experiment(self, number: int) -> list[str]:
        import fieldguide

        out = self.scratch / f"e{number}"
        with self._killing("experiment", most=3):
            how = {"overrides": self.settings, "on": "ray", "quiet": True}
            found = fieldguide.experiment(self.photos, [RECIPE], out, **how)
        return [f"ended with {found.exit_code}"] if found.exit_code else differences(self.run, out / RECIPE)

    def _training(self, number: int) -> list[str]:
        run, after = self.scratch / f"t{number}", self.draw.uniform(5, 40)
        code, killed = self._trained(run, after)
        self.hits["training"] += killed
        if code:
            code, _ = self._trained(run) if not (run / "resume.json").exists() else self._trained(run, resume=True)
        return [f"ended with {code}"] if code else differences(self.scratch / "t", run)

    def _trained(self, run: Path, after: float | None = None, *, resume: bool = False) -> tuple[int, int]:
        """A training of two processes, of which one is killed after so many seconds; (exit code, kills)."""
        words = ["--resume", str(run)] if resume else [str(self.photos), "-o", str(run), "--recipe", RECIPE]
        if not resume:
            words += [word for setting in self.settings for word in ("--set", setting)]
        command = [sys.executable, "-m", "fieldguide", "train", *words, "--processes", "2", "--device", "cpu"]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kills, began = 0, time.monotonic()
        while child.poll() is None:
            time.sleep(0.1)
            if after is not None and not kills and time.monotonic() - began > after and (ranks := _children(child.pid)):
                with contextlib.suppress(OSError):
                    os.kill(self.draw.choice(ranks), signal.SIGKILL)
                    kills = 1
        return child.returncode, kills

    @contextlib.contextmanager
    def _killing(self, kind: str, most: int):
        """Kills a worker at random moments, at most so often."""
        over, count = threading.Event(), self.draw.randint(1, most)

        def kill() -> None:
            for _ in range(count):
                if over.wait(self.draw.uniform(0.5, 12)):
                    return
                if victims := _named(VICTIMS[kind]):
                    with contextlib.suppress(OSError):
                        os.kill(self.draw.choice(victims), signal.SIGKILL)
                        self.hits[kind] += 1

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _named(beginning: str) -> list[int]:
    """Processes of this session whose title begins so."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if title.startswith(beginning) and f"FIELDGUIDE_CACHE={os.environ['FIELDGUIDE_CACHE']}".encode() in (
                entry / "environ"
            ).read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def main(count: int, seed: int = 0) -> int:
    """Prints what was killed and what differed; how many turns differed."""
    import ray

    draw, bad, done, began = random.Random(seed), 0, Counter(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"FIELDGUIDE_CACHE": f"{scratch}/cache", "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        os.environ |= {"RAY_worker_niceness": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        import torch

        torch.set_num_threads(1)
        many = Many(Path(scratch), draw)
        many.prepare()
        how = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        ray.init(address="local", num_cpus=2, **how)
        for number in range(count):
            if time.monotonic() - began > MOST_SECONDS:
                print(f"out of time after {number} of {count} turns")
                break
            kind = KINDS[number % len(KINDS)]
            found = many.turn(kind, number)
            done[kind] += 1
            if found:
                bad += 1
                print(f"turn {number}, {kind}: {found}", flush=True)
        ray.shutdown()
        for kind in KINDS:
            print(f"{done[kind]:>4} of kind {kind}, {many.hits[kind]} processes killed")
        print(f"{sum(done.values()) - bad} of {sum(done.values())} ended as the undisturbed ones")
    return bad


if __name__ == "__main__":
    sys.exit(
        1 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 12, int(sys.argv[2]) if len(sys.argv) > 2 else 0) else 0
    )
