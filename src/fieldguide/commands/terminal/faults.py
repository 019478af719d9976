"""What may happen to a process while it trains, in words that say how to go on."""

import contextlib
from collections.abc import Iterator

from fieldguide.data.batch.steady import DEAD_WORKER
from fieldguide.errors import Interrupted, MachineError
from fieldguide.run_folder import RunFolder
from fieldguide.world import is_out_of_memory


@contextlib.contextmanager
def explained(run: RunFolder) -> Iterator[None]:
    """Turns what the machine or a second signal does to a training into a sentence; what was saved is kept.

    Raises:
        MachineError: a disk that is full, read-only or gone, no memory, a worker that died.
        Interrupted: stopped at once.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        name = str(error) or "SIGINT"
        raise Interrupted(name, f"stopped at once by {name}; {how_to_go_on(run)}") from None
    except OSError as error:
        what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        raise MachineError(f"{run.path}: cannot go on ({what}); see to it, then: {how_to_go_on(run)}") from error
    except (MemoryError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0]
        if is_out_of_memory(error):
            raise _no_memory(run, first) from error
        if DEAD_WORKER in first:
            raise MachineError(f"{first}; {how_to_go_on(run)}") from error
        raise


def _no_memory(run: RunFolder, what: str) -> MachineError:
    return MachineError(
        f"there is not enough memory ({what or 'MemoryError'}); end other programs, or train anew with a smaller "
        f"training.batch_size or data.image_size_px. To go on as it is: {how_to_go_on(run)}"
    )


def how_to_go_on(run: RunFolder) -> str:
    """The command, or that there is nothing to go on with."""
    if not run.can_go_on:
        return "nothing was saved yet; start again"
    return f"what was saved is kept; resume with {run.command_to_go_on()}"
