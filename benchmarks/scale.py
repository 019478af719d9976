"""How cost grows with the number of photos: seconds, peak memory and open files of each stage.

Usage: python benchmarks/scale.py [--photos 10000 100000] [--stages check predict] [--distinct 20000] [--save]
Made-up JPEGs of 84 px are laid out in 20 classes. Each stage is a process of its own, watched from outside. Beyond
`--distinct` photos, the same pixels come again with another comment in the file, so contents differ and near duplicates
abound; a million photos need 4 GB of disk. `--save` puts the rows into results/scale.json, in place of older ones of
the same stage and number, and draws all of them (docs/images/scale.png).

`--near 12500 25000` measures the search for candidates of near duplicates alone, each with each and by lists, on
made-up prints of which a twentieth are noisy copies.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scale_plot
from PIL import Image
from side_by_side import machine

if TYPE_CHECKING:
    from fieldguide.data.look.facts import Print

HERE = Path(__file__).parent
RESULTS, PLOT = HERE / "results/scale.json", HERE.parent / "docs/images/scale.png"
STAGES = ("check", "train", "predict", "report")
CLASSES, SIDE_PX, QUALITY = 20, 84, 80
SMALL = (
    "model.backbone=test_resnet", "model.weights=none", "rules.backbones=null", "data.image_size_px=32",
    "training.plan=null", "training.batch_size=64", "model.features=last",
    "training.rounds=0", "training.phases.0.max_epochs=1",
)  # fmt: skip
LOOK_SECONDS = 0.05

Row = dict[str, Any]


def main() -> None:
    """Prints a row per stage and number of photos."""
    options = _options()
    if options.near:
        _near(options.near)
        return
    for count in options.photos:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            rows = _measured(Path(name), count, options.distinct, options.stages)
        if options.save:
            scale_plot.draw(_saved(rows), PLOT)
            print(f"drawn: {PLOT.relative_to(HERE.parent)}")


def _saved(rows: list[Row]) -> list[Row]:
    """All rows that are kept, the new ones among them."""
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    about = {"command": ["python", "benchmarks/scale.py", *words], "machine": machine()}
    new = {(row["photos"], row["stage"]) for row in rows}
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    kept = [row for row in kept if (row["photos"], row["stage"]) not in new] + [row | about for row in rows]
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    print(f"saved: {RESULTS.relative_to(HERE.parent)}")
    return kept


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="processes, in this order")
    parser.add_argument("--distinct", type=int, default=20_000, help="photos with pixels of their own")
    parser.add_argument("--folder", type=Path, help="where the photos are laid out for the time")
    parser.add_argument("--near", type=int, nargs="+", default=[], help="numbers of made-up prints")
    parser.add_argument("--save", action="store_true")
    return parser.parse_args()


def _near(counts: list[int]) -> None:
    """CPU seconds for candidates, both ways in turn, and how many of the copies are among them."""
    from threadpoolctl import threadpool_limits

    from fieldguide.data.look import near

    print(f"{'photos':>8} {'copies':>7} {'each with each':>15} {'found':>7} {'by lists':>9} {'found':>7}")
    for count in counts:
        prints, copies = _prints(count), count // 20
        told = f"{count:>8,} {copies:>7,}"
        for most in (count, 0):
            near.MOST_COMPARED, began = most, time.process_time()
            with threadpool_limits(1):
                pairs = near._candidates(prints, np.full(count, 1.3), np.ones((1, count), np.bool_))
            seconds = time.process_time() - began
            found = int(np.count_nonzero(pairs[1] - pairs[0] == count - copies))
            told += f" {seconds:>{15 if most else 9}.1f} {found:>7,}"
        print(told, flush=True)


def _prints(count: int) -> "list[Print]":
    """Made-up prints; the last twentieth are the first ones with noise."""
    from fieldguide.data.look.facts import COLOUR_SIDE_PX, GRAY_SIDE_PX, Print

    draw, found = np.random.default_rng(0), []
    colour = np.full((2, COLOUR_SIDE_PX, COLOUR_SIDE_PX), 128, np.uint8)
    for _ in range(count - count // 20):
        fields = draw.integers(0, 256, (8, 8), dtype=np.uint8)
        gray = fields.repeat(GRAY_SIDE_PX // 8, 0).repeat(GRAY_SIDE_PX // 8, 1)
        found.append(Print(gray, colour, int(draw.integers(0, 2**63))))
    for made in found[: count // 20]:
        noisy = (made.gray + draw.normal(0, 25, made.gray.shape) + draw.normal(0, 15)).clip(0, 255)
        found.append(Print(noisy.astype(np.uint8), colour, made.phash))
    return found


def _measured(folder: Path, count: int, distinct: int, stages: Sequence[str]) -> list[Row]:
    """The rows of one number of photos, shown as they come."""
    began = time.perf_counter()
    lay_out(folder / "photos", count, distinct)
    print(f"\n{count:,} photos, made in {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{'stage':<32} {'seconds':>9} {'peak MB':>9} {'MB kept':>9} {'files':>6}", flush=True)
    rows = []
    for stage in stages:
        found, peak, files = _watched(stage, folder)
        for name, (seconds, kept) in found.items():
            row = {"photos": count, "process": stage, "stage": name, "seconds": seconds}
            rows.append(row | {"peak_mb": peak, "kept_mb": kept, "files": files})
            print(f"{name:<32} {seconds:>9.1f} {peak:>9.0f} {kept:>9.0f} {files:>6}", flush=True)
    return rows


def lay_out(folder: Path, count: int, distinct: int) -> None:
    """Made-up photos, `train/CLASS/*.jpg` and a twentieth of them in `val/CLASS`."""
    import io

    made: list[bytes] = []
    for number in range(count):
        if number < distinct:
            draw = np.random.default_rng(number)
            low = Image.fromarray(draw.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize((SIDE_PX, SIDE_PX), 3)
            noise = draw.normal(0, 6, (SIDE_PX, SIDE_PX, 1))
            buffer = io.BytesIO()
            pixels = (np.asarray(low, np.float32) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
            made.append(buffer.getvalue())
        content = made[number % distinct]
        if number >= distinct:  # a comment behind the first marker makes it another file of the same pixels
            comment = str(number).encode()
            content = content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + content[2:]
        part = "val" if number % 20 == 19 else "train"
        place = folder / part / f"class_{number // 20 % CLASSES:02d}"
        if number < 2 * 20 * CLASSES:
            place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07d}.jpg").write_bytes(content)


def _watched(stage: str, folder: Path) -> tuple[dict[str, tuple[float, float]], float, int]:
    """A stage in a process of its own: its times, its peak memory in MB, and the most files it had open."""
    command = [sys.executable, __file__, "--stage", stage, str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak, files = 0.0, 0
    while child.poll() is None:
        peak, files = max(peak, _private_mb(child.pid)), max(files, _open_files(child.pid))
        time.sleep(LOOK_SECONDS)
    assert child.stdout is not None
    told = child.stdout.read().strip().splitlines()
    if child.returncode:
        sys.exit(f"{stage} ended with {child.returncode}")
    return json.loads(told[-1]), peak, files


def _private_mb(pid: int) -> float:
    """Memory that is not the page cache's, which the system takes back when it needs it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem"))) / 1e3


def _open_files(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


class Clock:
    """Times stages of one process, and the memory that each leaves behind."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, float]] = {}
        self._began = time.perf_counter()

    def done(self, name: str) -> None:
        """Since the last call."""
        now = time.perf_counter()
        self.found[name], self._began = (now - self._began, _private_mb(os.getpid())), now


def stage(name: str, folder: Path) -> dict[str, tuple[float, float]]:
    """One stage, in this process."""
    clock = Clock()
    {"check": _check, "train": _train, "predict": _predict, "report": _report}[name](folder, clock)
    return clock.found


def _check(folder: Path, clock: Clock) -> None:
    from fieldguide.data.look.check import check_photos
    from fieldguide.data.look.inspect import Inspected
    from fieldguide.data.look.looked_at import look_at
    from fieldguide.data.look.scan import scan
    from fieldguide.data.split.make import make_split

    clock.done("imports")
    photos = scan(folder / "photos")
    clock.done("check: files")
    facts = look_at(photos.photos, 200, lambda _: None)
    clock.done("check: look")
    checked = check_photos(photos, facts)
    clock.done("check: duplicates, findings")
    seen = [Inspected(f.photo, f.content_hash, f.reason, f.width, f.height) for f in facts]
    how = {"seed": 0, "validation_share": 0.15, "has_validation": False, "leaks": "allow"}
    make_split(seen, **how, groups=checked.duplicates.file_groups)
    clock.done("split")


def _train(folder: Path, clock: Clock) -> None:
    import fieldguide

    class Watch(fieldguide.Callback):
        step = False

        def run_begins(self, beginning: object) -> None:
            clock.done("train: check, split, caching")

        def step_done(self, images: int) -> None:
            if not self.step:
                clock.done("train: first step")
                self.step = True

        def epoch_done(self, epoch: object, state: object) -> None:
            clock.done("train: epoch and validation")

    clock.done("imports")
    settings = [*SMALL, "data.leaks=allow"]
    fieldguide.train(folder / "photos", "auto", folder / "run", overrides=settings, quiet=True, callbacks=[Watch()])
    clock.done("train: judging, report")


def _predict(folder: Path, clock: Clock) -> None:
    import fieldguide

    clock.done("imports")
    fieldguide.predict(folder / "run", folder / "photos", folder / "rows.csv", engine="plain", quiet=True)
    clock.done("predict")


def _report(folder: Path, clock: Clock) -> None:
    from fieldguide.commands.report import report

    clock.done("imports")
    report(folder / "run")
    clock.done("report")
    print(f"report.html has {(folder / 'run' / 'report.html').stat().st_size / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stage"]:
        print(json.dumps(stage(sys.argv[2], Path(sys.argv[3]))))
    else:
        main()
