"""Whether a training's memory stays flat: runs `fieldguide train` as a child process and watches it.

Usage: python benchmarks/memory.py PHOTOS --minutes 60 --plot memory.png --csv memory.csv -- --weights none
       python benchmarks/memory.py --made-up 20000 --minutes 6 -- --weights none
Arguments after `--` go to `fieldguide train` (recipe resnet34-adam). The training should outlast the minutes: phase 0
never ends unless the arguments say otherwise. After the minutes the child gets SIGTERM, as from a cluster.

Every 10 s (--every) it reads from /proc (Linux), for the child and all its processes: the proportional set size
(shared memory counts once), its part in anonymous and shared memory (without mapped files such as the cache), open
file handles and the number of processes. At the end it prints the peak, the slope by least squares after the first
fifth, and whether processes, handles or shared memory are left. `--made-up N` trains on N JPEG files of 500x375.
"""

import argparse
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import photos
from matplotlib.figure import Figure

RECIPE = "resnet34-adam"
ENDLESS = ("training.phases.0.max_epochs=100000", "training.phases.0.patience_epochs=100000")
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Sample:
    """What all processes of a training hold together at one time."""

    seconds: float
    pss_mb: float
    own_mb: float
    handles: int
    processes: int


def of_session(session: int) -> list[int]:
    """Every living process of a session: the child's, with all that it started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, _, own = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue  # it ended while we looked
            if int(own) == session and state != "Z":
                found.append(int(entry.name))
    return found


def look(session: int, seconds: float) -> Sample:
    """One sample; a process that ends meanwhile counts as ended."""
    pss = own = handles = count = 0
    for process in of_session(session):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
            open_files = len(list(Path(f"/proc/{process}/fd").iterdir()))
        except OSError:
            continue
        kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines}
        pss = pss + kilobytes["Pss:"]
        own += kilobytes["Pss_Anon:"] + kilobytes["Pss_Shmem:"]
        handles, count = handles + open_files, count + 1
    return Sample(seconds, pss / 1024, own / 1024, handles, count)


def watch(command: list[str], minutes: float, every_s: float) -> tuple[list[Sample], int, list[int]]:
    """Runs a command for so long; gives the samples, its exit code, and the processes that it left behind."""
    child = subprocess.Popen(command, start_new_session=True)
    began, samples = time.monotonic(), []
    try:
        while child.poll() is None and time.monotonic() - began < 60 * minutes:
            time.sleep(every_s)
            samples.append(look(child.pid, time.monotonic() - began))
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        code = child.wait(timeout=600)
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    time.sleep(2)  # workers get a moment to notice
    return [sample for sample in samples if sample.processes], code, of_session(child.pid)


def slope_mb_per_hour(samples: list[Sample]) -> float:
    """Least squares over the memory without mapped files, after the first fifth."""
    steady = samples[len(samples) // 5 :]
    hours = np.array([sample.seconds / 3600 for sample in steady])
    return float(np.polyfit(hours, [sample.own_mb for sample in steady], 1)[0])


def draw(samples: list[Sample], path: Path) -> None:
    """Memory above, handles and processes below, over minutes."""
    figure = Figure(figsize=(9, 5.5), layout="constrained", dpi=110)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    minutes = [sample.seconds / 60 for sample in samples]
    above.plot(minutes, [sample.pss_mb for sample in samples], color="#1f6f8b", label="all (shared counted once)")
    above.plot(minutes, [sample.own_mb for sample in samples], color="#8a6d3b", label="without mapped files")
    above.set(ylabel="memory (MB)", ylim=(0, None))
    below.plot(minutes, [sample.handles for sample in samples], color="#5b5b5b", label="file handles")
    below.plot(minutes, [sample.processes for sample in samples], color="#1f6f8b", label="processes")
    below.set(xlabel="minutes", ylabel="count", ylim=(0, None))
    for axes in (above, below):
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(path)


def main() -> None:
    """Trains, watches, says what was seen; exit code 1 where something was left behind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--made-up", type=int, metavar="N", help="instead of PHOTOS")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=10, metavar="SECONDS")
    parser.add_argument("--csv", type=Path, default=Path("memory.csv"))
    parser.add_argument("--plot", type=Path, default=Path("memory.png"))
    parser.add_argument("--run", type=Path, help="keep the run in this folder; default: a temporary folder")
    own = sys.argv[1:]
    place = own.index("--") if "--" in own else len(own)
    asked, arguments = parser.parse_args(own[:place]), own[place + 1 :]
    if (asked.photos is None) == (asked.made_up is None):
        parser.error("give PHOTOS or --made-up N")
    settings = [part for setting in ENDLESS for part in ("--set", setting)]
    shared_before = set(SHARED_MEMORY.iterdir()) if SHARED_MEMORY.is_dir() else set()
    with tempfile.TemporaryDirectory() as scratch:
        run = asked.run or Path(scratch) / "run"
        if asked.made_up:
            photos.stage(None, Path(scratch) / "photos", asked.made_up, max(2, asked.made_up // 50))
        where = Path(scratch) / "photos" if asked.made_up else asked.photos
        command = [sys.executable, "-m", "fieldguide", "train", str(where), "-o", str(run), "--recipe", RECIPE]
        samples, code, left = watch([*command, *settings, *arguments], asked.minutes, asked.every)
        history = run / "history.jsonl"
        epochs = len(history.read_text().splitlines()) if history.exists() else 0
    if len(samples) < 5:
        sys.exit(f"only {len(samples)} samples (exit code {code}); train for longer or sample more often")
    with asked.csv.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(Sample.__annotations__)
        rows.writerows(
            (f"{s.seconds:.1f}", f"{s.pss_mb:.1f}", f"{s.own_mb:.1f}", s.handles, s.processes) for s in samples
        )
    draw(samples, asked.plot)
    shared = {path for path in set(SHARED_MEMORY.iterdir()) - shared_before if path.name.startswith("torch_")}
    steady = samples[len(samples) // 5 :]
    memory, handles = [s.own_mb for s in steady], [s.handles for s in steady]
    print(f"{samples[-1].seconds / 60:.1f} minutes, {epochs} epochs, {len(samples)} samples, exit code {code}")
    print(f"peak anonymous and shared memory: {max(s.own_mb for s in samples):.0f} MB", end="")
    print(f", with mapped files {max(s.pss_mb for s in samples):.0f} MB")
    print(f"after the first fifth: {min(memory):.0f} to {max(memory):.0f} MB", end="")
    print(f", slope {slope_mb_per_hour(samples):+.1f} MB an hour")
    print(f"file handles {handles[0]} to {handles[-1]} (peak {max(handles)}), processes {steady[-1].processes}")
    print(f"left behind: {len(left)} processes, {len(shared)} pieces of shared memory; {asked.csv}, {asked.plot}")
    sys.exit(1 if left or shared else 0)


if __name__ == "__main__":
    main()
