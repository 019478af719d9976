"""Ranks, workers, actors and nodes killed at random, for ten minutes at most: `python -m tests.torture.many`.

Trainings of two processes, trials on Ray and predictions on Ray go on in two lanes: trainings beside the others. Each
ends as the undisturbed one, or is counted as bad. Ray's cluster has two local nodes.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars

from fieldguide import Callback
from tests.conftest import write_photo
from tests.torture.runner import COUNTS, SETTINGS, differences
from tests.torture.victim import is_done
from tests.world.group import Group, draw_nothing

MOST_SECONDS = 600
RECIPE = "resnet34-adam"
PHOTOS, PIECE_PHOTOS = 96, 32
NODES = 2
SHORTER = ("training.phases.0.max_epochs=2", "training.phases.1.max_epochs=1", "training.rounds.max_epochs=1")
TRIALS_AT_ONCE = 10
SHARE_OF_NODES = 0.2  # of what is killed on Ray
PRELOADED = ("fieldguide.commands.train", "fieldguide.commands.predict_elsewhere", "fieldguide.cluster.ray_pieces")
VICTIMS = {"prediction": "ray::MapWorker", "trial": "ray::in_folder"}


class DrawNothing(Callback):
    """Reaches the processes of trials."""

    def run_begins(self, beginning: object) -> None:
        """Before the first figure."""
        draw_nothing()


class Scene:
    """Photos, the undisturbed ends, and what was found so far."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.photos, self.new = scratch, scratch / "photos", scratch / "new"
        self.hits, self.done, self.bad = Counter[str](), Counter[str](), list[str]()
        self.settings = [*SETTINGS, *SHORTER, "training.checkpoint_every_minutes=0"]
        self._until = time.monotonic() + MOST_SECONDS
        for place, (folder, count) in enumerate(COUNTS.items()):
            for number in range(count):
                hue = 1 + folder.endswith("oak")
                write_photo(self.photos / folder / f"{number:03d}.png", hue, 1000 * (place + 1) + number)
        for number in range(PHOTOS):
            write_photo(self.new / f"{number:03d}.png", number % 2, 9000 + number)
        (self.new / "007.png").write_bytes(b"no photo")

    @property
    def is_over(self) -> bool:
        """Whether the ten minutes are."""
        return time.monotonic() > self._until

    def note(self, kind: str, name: str, found: list[str]) -> None:
        """One has ended; what differs from the undisturbed one."""
        self.done[kind] += 1
        if found:
            self.bad.append(f"{kind} {name}: {found}")
            print(self.bad[-1], flush=True)


class Trainings:
    """Trainings of two processes, of which one or both are killed."""

    def __init__(self, scene: Scene, group: Group, draw: random.Random) -> None:
        self._scene, self._group, self._draw = scene, group, draw
        began = time.monotonic()
        assert not any(self._trained("t", resume=False)), (scene.scratch / "t.log.0").read_text()
        self._seconds = time.monotonic() - began

    def carry_out(self, count: int) -> None:
        """So many, each killed up to twice."""
        for number in range(count):
            if self._scene.is_over:
                return
            name, resume, found = f"t{number}", False, list[str]()
            run = self._scene.scratch / name
            for _ in range(self._draw.choice((1, 1, 2))):
                ranks = self._draw.choice(([0], [1], [0, 1]))
                after = self._draw.uniform(0, self._seconds)
                codes = self._trained(name, resume=resume, kill=["SIGKILL", ranks, after])
                self._scene.hits["training"] += codes.count(-signal.SIGKILL)
                resume = (run / "resume.json").exists()
                if is_done(run):
                    break
            if not is_done(run):
                codes = self._trained(name, resume=resume)
                found = [f"ended with {codes}"] if any(codes) else []
            self._scene.note("training", name, found or differences(run.with_name("t"), run))

    def _trained(self, name: str, *, resume: bool, **how: object) -> list[int]:
        """Exit codes of both processes."""
        run = self._scene.scratch / name
        words = ["--resume", run] if resume else [self._scene.photos, "-o", run, "--recipe", RECIPE]
        if not resume:
            words += [word for setting in self._scene.settings for word in ("--set", setting)]
        log = run.with_name(f"{name}.log")
        codes: list[int] = self._group.run(2, "train", *words, "--device", "cpu", log=log, ends_together=True, **how)[
            "codes"
        ]
        return codes


class OnRay:
    """Trials and predictions on a cluster of two nodes, of which workers and nodes are killed."""

    def __init__(self, scene: Scene, draw: random.Random) -> None:
        import ray
        from ray.cluster_utils import Cluster

        import fieldguide

        self._scene, self._draw = scene, draw
        how = {"overrides": scene.settings, "seeds": TRIALS_AT_ONCE, "quiet": True}
        assert fieldguide.experiment(scene.photos, [RECIPE], scene.scratch / "e", **how).exit_code == 0
        self._run = scene.scratch / "e" / f"{RECIPE}-seed0"
        fieldguide.predict(self._run, scene.new, scene.scratch / "rows.parquet", engine="plain", quiet=True)
        self._rows = polars.read_parquet(scene.scratch / "rows.parquet")
        self._memory = {"object_store_memory": 100_000_000}
        head = {"num_cpus": 0, "include_dashboard": False, **self._memory}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: list[Any] = []
        self._add_nodes()
        ray.init(address=self._cluster.address, log_to_driver=False, logging_level="ERROR")

    def close(self) -> None:
        """Ends the cluster."""
        import ray

        ray.shutdown()
        self._cluster.shutdown()

    def predict(self, count: int) -> None:
        """So many predictions."""
        import fieldguide
        from fieldguide.commands import predict_elsewhere

        predict_elsewhere.PIECE_PHOTOS = PIECE_PHOTOS
        for number in range(count):
            if self._scene.is_over:
                return
            out = self._scene.scratch / f"p{number}"
            with self._killing("prediction", most=1):
                fieldguide.predict(self._run, self._scene.new, out, engine="plain", on="ray", quiet=True)
            rows = polars.concat([polars.read_parquet(file) for file in sorted(out.glob("*.parquet"))])
            self._scene.note("prediction", out.name, [] if rows.equals(self._rows) else ["rows"])

    def try_out(self, count: int) -> None:
        """So many trials, some at once."""
        import fieldguide

        for begin in range(0, count, TRIALS_AT_ONCE):
            if self._scene.is_over:
                return
            out, seeds = self._scene.scratch / f"e{begin}", min(TRIALS_AT_ONCE, count - begin)
            how = {"overrides": self._scene.settings, "seeds": seeds, "on": "ray", "quiet": True}
            how |= {"callbacks": [DrawNothing()]}
            with self._killing("trial", most=3):
                code = fieldguide.experiment(self._scene.photos, [RECIPE], out, **how).exit_code
            for seed in range(seeds):
                name = f"{RECIPE}-seed{seed}"
                found = [f"ended with {code}"] if code else differences(self._run.parent / name, out / name)
                self._scene.note("trial", f"{out.name}/{name}", found)

    @contextlib.contextmanager
    def _killing(self, kind: str, most: int) -> Iterator[None]:
        """Kills something at random moments, at most so often, and one node; that is replaced afterwards."""
        over, count = threading.Event(), self._draw.randint(1, most)

        def kill() -> None:
            for _ in range(count):
                while not (victims := named(VICTIMS[kind])):
                    if over.wait(0.05):
                        return
                if over.wait(self._draw.uniform(0, 2)):
                    return
                if self._draw.random() < SHARE_OF_NODES:
                    if len(self._nodes) == NODES:
                        node = self._nodes.pop(self._draw.randrange(NODES))
                        self._cluster.remove_node(node, allow_graceful=False)
                        self._scene.hits[f"{kind}, nodes"] += 1
                else:
                    with contextlib.suppress(OSError):
                        os.kill(self._draw.choice(victims), signal.SIGKILL)
                        self._scene.hits[kind] += 1

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._add_nodes()

    def _add_nodes(self) -> None:
        """Ray starts nodes in the main thread alone."""
        while len(self._nodes) < NODES:
            self._nodes.append(self._cluster.add_node(num_cpus=1, **self._memory))


def named(beginning: str) -> list[int]:
    """Processes of this program's cluster whose title begins so."""
    found, mark = [], f"FIELDGUIDE_CACHE={os.environ['FIELDGUIDE_CACHE']}".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (entry / "cmdline").read_bytes().startswith(beginning.encode()) and mark in (
                entry / "environ"
            ).read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def in_thread(call: Callable[..., None], *given: object) -> tuple[threading.Thread, list[BaseException]]:
    """The call in a thread, and what it raises."""
    raised = list[BaseException]()

    def carry_out() -> None:
        try:
            call(*given)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=carry_out)
    thread.start()
    return thread, raised


def main(trainings: int, trials: int, predictions: int, seed: int = 0) -> int:
    """Prints what was killed and what differed; how many differed, and of how many kinds none came to its end."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"FIELDGUIDE_CACHE": f"{scratch}/cache", "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        os.environ |= {"RAY_worker_niceness": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        os.environ |= {"RAY_preload_python_modules": ",".join(PRELOADED)}
        import torch

        torch.set_num_threads(1)
        draw_nothing()
        scene = Scene(Path(scratch))
        with Group() as group:
            on_ray = OnRay(scene, random.Random(seed + 1))
            lane, raised = in_thread(lambda: Trainings(scene, group, random.Random(seed)).carry_out(trainings))
            try:
                on_ray.predict(predictions)
                on_ray.try_out(trials)
            finally:
                lane.join()
                on_ray.close()
        for error in raised:
            raise error
        for kind, count in (("training", trainings), ("trial", trials), ("prediction", predictions)):
            killed = f"{scene.hits[kind]} processes and {scene.hits[f'{kind}, nodes']} nodes killed"
            print(f"{scene.done[kind]:>4} of {count} of kind {kind}, {killed}")
        done = sum(scene.done.values())
        print(f"{done - len(scene.bad)} of {done} ended as the undisturbed ones")
        if done < trainings + trials + predictions:
            print(f"out of time after {MOST_SECONDS / 60:g} minutes")
    asked = {"training": trainings, "trial": trials, "prediction": predictions}
    return len(scene.bad) + sum(count > 0 and not scene.done[kind] for kind, count in asked.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=50)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--predictions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(min(1, main(options.trainings, options.trials, options.predictions, options.seed)))
