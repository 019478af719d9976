"""What the machine can do to a training, as messages that say how to resume."""

import contextlib
from collections.abc import Iterator

from fieldguide.data.batch.steady import DEAD_WORKER
from fieldguide.errors import Interrupted, MachineError
from fieldguide.run_folder import RunFolder
from fieldguide.world import is_out_of_memory


@contextlib.contextmanager
def explained(run: RunFolder) -> Iterator[None]:
    """Turns faults of the machine (MachineError) and a second signal (Interrupted) into messages that say how to
    resume.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        name = str(error) or "SIGINT"
        raise Interrupted(name, f"stopped at once by {name}; {how_to_go_on(run)}") from None
    except OSError as error:
        what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        raise MachineError(f"{run.path}: cannot continue ({what}); fix this, then: {how_to_go_on(run)}") from error
    except (MemoryError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0]
        if is_out_of_memory(error):
            raise _no_memory(run, first) from error
        if DEAD_WORKER in first:
            raise MachineError(f"{first}; {how_to_go_on(run)}") from error
        raise


def _no_memory(run: RunFolder, what: str) -> MachineError:
    return MachineError(
        f"out of memory ({what or 'MemoryError'}); close other programs, or start a new run with a smaller "
        f"training.batch_size or data.image_size_px. To resume as it is: {how_to_go_on(run)}"
    )


def how_to_go_on(run: RunFolder) -> str:
    """The command that resumes, or that nothing was saved."""
    if not run.can_go_on:
        return "nothing was saved yet; start again"
    return f"what was saved is kept; resume with {run.command_to_go_on()}"
