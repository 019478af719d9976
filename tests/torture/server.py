"""A warm process that forks a victim a job, since importing torch takes longer than a small training.

A job is a line of JSON on stdin, its answer a line on stdout: how the victim ended.
"""

import json
import os
import signal
import sys
import time

import torch

import fieldguide.commands.resume
import fieldguide.commands.train
from tests.torture.victim import carry_out


def run(job):
    """Forks, kills after `after_s` if that is given, waits."""
    pid = os.fork()
    if pid == 0:
        carry_out(job)
    deadline = time.monotonic() + job.get("after_s", 600)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return {"killed": os.WIFSIGNALED(status), "code": os.waitstatus_to_exitcode(status)}
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            deadline += 60
        time.sleep(0.002)


def main():
    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    assert fieldguide.commands.resume and fieldguide.commands.train
    main()
