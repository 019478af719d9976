"""A warm process that forks the processes of a training, since importing torch takes longer than a small training.

A job is a line of JSON on stdin, its answer a line on stdout: the exit codes by rank (-9: killed), and the seconds from
the kill to the end of the last one.
"""

import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
GRACE_SECONDS = 3.0  # torchrun's agent gives 30, after SIGTERM
PRELOADED = (
    "fieldguide.commands.train",
    "fieldguide.commands.resume",
    "fieldguide.commands.trial.together",
    "fieldguide.report.write",
    "matplotlib.pyplot",
    "sklearn.linear_model",
    "tests.commands.conftest",
)


class Group:
    """The server, as a context; it ends with it."""

    def __enter__(self):
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.world.group"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        return self

    def __exit__(self, *_):
        self._server.stdin.close()
        self._server.wait(timeout=60)
        self._server.stdout.close()

    def run(self, processes, *arguments, log, **how):
        """Runs `fieldguide *arguments` in so many processes, as torchrun does.

        `kill` is [signal, ranks, file that must be there first or seconds that must be over]; `memory` is
        {rank: photos} that fit at once, `remove` [folder, file that must be there first]; where they end together, one
        that was killed ends the others after some seconds, as torchrun's agent does.
        """
        job = {"processes": processes, "arguments": [str(each) for each in arguments], "log": str(log), **how}
        print(json.dumps(job), file=self._server.stdin, flush=True)
        return json.loads(self._server.stdout.readline())


def carry_out(job, rank, port):
    """One of the processes; it ends here."""
    size, code = job["processes"], 70
    with open(f"{job['log']}.{rank}", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if size > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
        }
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    sys.argv = ["fieldguide", *job["arguments"]]
    try:
        if str(rank) in job.get("memory", {}):
            be_short_of_memory(job["memory"][str(rank)])
        from fieldguide import cli

        draw_nothing()
        cli.start_again_with_settings = lambda _: None
        cli.main()
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def draw_nothing():
    """Half of a small training's time is matplotlib's."""
    from matplotlib.figure import Figure

    from tests.commands.conftest import EMPTY_PNG, EMPTY_SVG

    Figure.savefig = lambda self, target, format=None, **_: target.write(EMPTY_SVG if format == "svg" else EMPTY_PNG)


def be_short_of_memory(photos):
    """Lets no more photos than that through a network at once while it learns."""
    from fieldguide.model.classifier import Classifier

    whole = Classifier.forward

    def forward(self, images):
        logits = whole(self, images)
        if self.training and len(images) > photos:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        return logits

    Classifier.forward = forward


def run(job):
    """Forks them, sends the signal when it is time, waits."""
    from torch.distributed import TCPStore

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    pids = {}
    for rank in range(job["processes"]):
        pid = os.fork()
        if pid == 0:
            carry_out(job, rank, port)
        pids[pid] = rank
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)  # outlives rank 0, as torchrun's does
    codes, killed, began = {}, None, time.monotonic()
    name, ranks, when = job.get("kill", (None, (), ""))
    folder, first = job.get("remove", ("", ""))
    while pids:
        done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            codes[pids.pop(done)] = os.waitstatus_to_exitcode(status)
        is_hopeless = job.get("ends_together") and killed is not None and time.monotonic() > killed + GRACE_SECONDS
        if is_hopeless or time.monotonic() > began + 120:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        is_due = Path(when).exists() if isinstance(when, str) else time.monotonic() > began + when
        if name and killed is None and is_due:
            killed = time.monotonic()
            for pid, rank in pids.items():
                if rank in ranks:
                    os.kill(pid, getattr(signal, name))
        if folder and Path(first).exists():
            shutil.rmtree(folder)
            folder = ""
        time.sleep(0.005)
    del store  # its thread would not survive the next fork
    return {"codes": [codes[rank] for rank in sorted(codes)], "seconds": killed and time.monotonic() - killed}


def main():
    """Answers jobs until stdin ends."""
    import torch

    for name in PRELOADED:
        importlib.import_module(name)
    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
