"""Predictions that are killed at random moments and gone on with, held against one that was never interrupted.

`python -m tests.torture.predictions RUN PHOTOS 20` prints how many of 20 gave the same bytes.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path


def predicted(run: Path, photos: Path, output: Path, resume: bool, after_s: float | None) -> bool:
    """Predicts in a forked process that is killed after so many seconds; whether it came to its end."""
    from fieldguide import predict

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = predict(run, photos, output, top=2, unsure_below=0.6, resume=resume, quiet=True).exit_code
        finally:
            os._exit(code)
    end = None if after_s is None else time.monotonic() + after_s
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) in (0, 3), os.WEXITSTATUS(status)
            return os.WIFEXITED(status)
        if end is not None and time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            end += 60
        time.sleep(0.002)


def trials(run: Path, photos: Path, count: int, seed: int = 0) -> tuple[int, int]:
    """How many of `count` predictions, each killed up to four times, gave the bytes of an uninterrupted one, and how
    often one was killed.
    """
    draw, same, kills = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.csv"
        began = time.monotonic()
        assert predicted(run, photos, whole, False, None)
        seconds = time.monotonic() - began
        for number in range(count):
            output, resume = Path(folder) / f"{number}.csv", False
            for _ in range(draw.randint(1, 4)):
                if predicted(run, photos, output, resume, draw.uniform(0, 1.1 * seconds)):
                    break
                kills, resume = kills + 1, True
            assert predicted(run, photos, output, True, None)
            left = sorted(path.name for path in Path(folder).glob(f"{number}.csv*"))
            same += output.read_bytes() == whole.read_bytes() and left == [output.name]
    return same, kills


def main() -> None:
    """The command line."""
    import torch

    import fieldguide.commands.predict  # noqa: F401  # loaded once, before the first fork

    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    run, photos, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    same, kills = trials(run, photos, count)
    print(f"{same} of {count} predictions have the bytes of an uninterrupted one, after {kills} kills")
    sys.exit(same < count)


if __name__ == "__main__":
    main()
