"""Batches that survive the death of a worker process: new workers continue with the missing batch."""

import signal
import threading
from collections.abc import Callable, Iterator

from fieldguide.data.batch.batches import Batch
from fieldguide.data.batch.order import SHUFFLED, WHOLE, Order, Share
from fieldguide.data.batch.worker_batches import TrainingBatches
from fieldguide.errors import MachineError

DEAD_WORKER = "DataLoader worker"  # torch says it in words alone
DEAD_BEFORE_ITS_BATCH_WAS_FETCHED = (ConnectionError, EOFError, FileNotFoundError)  # of the socket to the worker


def steady(
    batches: TrainingBatches,
    augmentation: str,
    epoch: int,
    first_step: int,
    tell: Callable[[str], None],
    *,
    order: Order = SHUFFLED,
    share: Share = WHOLE,
) -> Iterator[Batch]:
    """The batches of one epoch; a worker that dies is replaced, which `tell` hears, but not twice at the same batch.

    Raises MachineError if workers died twice at the same batch, PhotosError if a photo cannot be read any more.
    """
    step, failed = first_step, -1
    while True:
        try:
            for batch in batches.epoch(augmentation, epoch, step, order=order, share=share):
                _let_no_signal_raise()
                step += 1
                yield batch
            return
        except (RuntimeError, *DEAD_BEFORE_ITS_BATCH_WAS_FETCHED) as error:
            if isinstance(error, RuntimeError) and DEAD_WORKER not in str(error):
                raise
            batches.restart()
            reason = (str(error) or type(error).__name__).splitlines()[0]
            what = f"a worker process died in epoch {epoch} at step {step + 1} ({reason})"
            if step == failed:
                raise MachineError(f"{what}, twice at this step; check that memory and /dev/shm have room") from None
            failed = step
            tell(f"{what}; new workers continue with the same photos")


def _let_no_signal_raise() -> None:
    """torch raises from a signal's handler when a worker dies, wherever the program is: also in mid-update of weights.

    Without that handler the loader notices within seconds, where it waits for the next batch.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
        handler = signal.getsignal(signal.SIGCHLD)
        if callable(handler) and (getattr(handler, "__module__", "") or "").startswith("torch."):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
