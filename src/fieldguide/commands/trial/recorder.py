"""Writes each epoch and each better model into the run as soon as it is there."""

from fieldguide.model.bundle import write_bundle
from fieldguide.model.description import Description
from fieldguide.run_folder import RunFolder
from fieldguide.training.observers import Callback
from fieldguide.training.state import Epoch, State


class Recorder(Callback):
    """Keeps history and bundle of a run."""

    def __init__(self, run: RunFolder, description: Description) -> None:
        self._run, self._description = run, description

    def epoch_done(self, epoch: Epoch, state: State) -> None:
        """Writes the bundle if it is the best epoch so far, then the history."""
        if epoch.best:
            self._write_bundle(state)
        self._run.write_history([done.to_dict() for done in state.history])

    def training_done(self, state: State) -> None:
        """Writes the soup's mean, where it is the model."""
        if state.soup is not None and state.soup.is_kept:
            self._write_bundle(state)

    def _write_bundle(self, state: State) -> None:
        if state.best is not None:
            write_bundle(self._run.bundle, self._description, state.best.weights)
