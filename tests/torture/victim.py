"""One training in a process of its own, which may end itself with SIGKILL in the middle of writing a file."""

import io
import json
import os
import signal
import sys
import traceback
from pathlib import Path

CALLS = ("write", "fsync", "replace", "replaced", "unlink")


class Traps:
    """Counts what is done to files below a folder; at the given count the process ends itself.

    A `write` that is hit has written half of its bytes; `replace` is hit before the file takes its name, `replaced`
    after that.
    """

    def __init__(self, folder, at, report):
        self.folder, self.at, self.report, self.count = str(folder), at, report, 0
        fsync, replace, unlink, plain_fdopen = os.fsync, os.replace, os.unlink, os.fdopen
        traps = self

        class Writer(io.BufferedWriter):
            def write(self, content):
                if traps.hits("write", os.readlink(f"/proc/self/fd/{self.fileno()}")):
                    super().write(memoryview(content)[: len(content) // 2])
                    super().flush()
                    traps.end()
                return super().write(content)

        def fdopen(handle, mode="r", *arguments, **options):
            return (
                Writer(io.FileIO(handle, "wb")) if mode == "wb" else plain_fdopen(handle, mode, *arguments, **options)
            )

        def trapped_fsync(handle):
            self.meet("fsync", os.readlink(f"/proc/self/fd/{handle}"))
            fsync(handle)

        def trapped_replace(old, new, **options):
            self.meet("replace", new)
            replace(old, new, **options)
            self.meet("replaced", new)

        def trapped_unlink(path, **options):
            self.meet("unlink", path)
            unlink(path, **options)

        os.fsync, os.replace, os.unlink, os.fdopen = trapped_fsync, trapped_replace, trapped_unlink, fdopen

    def hits(self, call, path):
        if not os.fspath(path).startswith(self.folder):
            return False
        self.count += 1
        if self.count == self.at:
            self.report.write_text(f"{call} {kind(os.path.relpath(path, self.folder))}")
        return self.count == self.at

    def meet(self, call, path):
        if self.hits(call, path):
            self.end()

    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)


def kind(name):
    """`checkpoint`, `bundle`, a temporary file's folder, or the file's own name."""
    first = Path(name).parts[0] if Path(name).parts else "."
    return "its temporary file" if first.startswith(".writing-") else first


def is_done(run):
    """Whether it was killed after its last file was written."""
    result = run / "result.json"
    return result.exists() and not json.loads(result.read_text())["stopped"] and (run / "report.html").exists()


def carry_out(job):
    """Trains or goes on, as the job says; the process ends here.

    Exit codes: 0 done, 3 there is nothing to go on with yet, 4 a mistake.
    """
    from fieldguide import resume, train
    from fieldguide.errors import FieldguideError

    run = Path(job["run"])
    with open(job["log"], "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    traps = Traps(run, job.get("at_call", 0), Path(job["report"]))
    try:
        if job["go_on"]:
            if not (run / "resume.json").exists():
                os._exit(3)
            if not is_done(run):
                resume(run)
        else:
            train(job["photos"], "resnet34-adam", run, overrides=job["settings"], device="cpu")
        Path(job["report"]).write_text(f"done {traps.count}")
        os._exit(0)
    except (FieldguideError, Exception):
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(4)
